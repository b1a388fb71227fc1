"""Variants are found by name, config or instance; anything else is explained."""

import keras
import pytest

from bert4keras3 import naming
from bert4keras3.layers import attention_normalizer
from bert4keras3.layers.attention_normalizer import (
    NORMALIZERS,
    AttentionNormalizer,
    EntropyInvariantSoftmax,
)


def test_a_name_is_looked_up():
    assert naming.lookup("one", {"one": 1, "two": 2}, "number") == 1


def test_an_unknown_name_names_the_nearest_and_all():
    with pytest.raises(ValueError) as error:
        naming.lookup("squared_rule", NORMALIZERS, "attention normalizer")
    text = str(error.value)
    assert "Unknown attention normalizer 'squared_rule'" in text
    assert "Did you mean 'squared_relu'?" in text
    assert all(name in text for name in NORMALIZERS)


def test_a_name_like_no_other_gets_no_guess():
    with pytest.raises(ValueError, match="Known names: one") as error:
        naming.lookup("zzzzzz", {"one": 1}, "number")
    assert "Did you mean" not in str(error.value)


def test_name_config_and_instance_resolve_to_the_same():
    instance = EntropyInvariantSoftmax(min_length=1)
    assert attention_normalizer.get(instance) is instance
    assert (
        attention_normalizer.get(attention_normalizer.serialize(instance)) == instance
    )
    assert attention_normalizer.get("softmax_plus") == EntropyInvariantSoftmax()


@pytest.mark.parametrize(
    "wrong", [None, 3, ["softmax"], EntropyInvariantSoftmax, keras.layers.Dense(2)]
)
def test_another_type_is_refused(wrong):
    with pytest.raises(TypeError, match="one of .*softmax.*AttentionNormalizer"):
        naming.resolve(wrong, NORMALIZERS, "attention normalizer", AttentionNormalizer)


def test_a_config_of_another_class_is_refused():
    config = keras.saving.serialize_keras_object(keras.layers.Dense(2))
    with pytest.raises(TypeError, match="attention normalizer"):
        attention_normalizer.get(config)
