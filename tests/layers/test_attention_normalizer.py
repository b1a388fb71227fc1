"""Normalizers: their weights, and the length scale."""

import keras
import numpy as np
import pytest
import reference
from contract import to_numpy

from bert4keras3.layers import attention_normalizer
from bert4keras3.layers.attention_normalizer import (
    NORMALIZERS,
    AttentionNormalizer,
    EntropyInvariantSoftmax,
    Softmax,
    SquaredReLU,
)

RNG = np.random.default_rng(5)


NAMES = ("entropy_invariant_softmax", "softmax", "softmax_plus", "squared_relu")


@pytest.mark.parametrize("name", NAMES)  # the others have a file of their own
def test_weights_against_the_formulas(name):
    logits = RNG.normal(0, 3, size=(1, 2, 3, 20)).astype("float32")
    normalizer = attention_normalizer.get(name)
    num_keys = keras.ops.convert_to_tensor(20.0)
    temperature = normalizer.temperature(num_keys)
    heated = logits if temperature is None else logits * float(temperature)
    given = to_numpy(normalizer(keras.ops.convert_to_tensor(heated), num_keys))
    formula = {"softmax_plus": "entropy_invariant_softmax"}.get(name, name)
    expected = reference.attention_weights(logits.astype("float64"), None, formula)
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-7)


def test_softmax_plus_is_the_entropy_invariant_softmax():
    assert NORMALIZERS["softmax_plus"] is EntropyInvariantSoftmax
    assert NORMALIZERS["entropy_invariant_softmax"] is EntropyInvariantSoftmax
    normalizer = attention_normalizer.get("softmax_plus")
    assert (normalizer.base_length, normalizer.min_length) == (512, 16)


def test_the_scale_is_one_at_512_has_a_floor_and_no_ceiling():
    n = np.array([1.0, 15, 16, 17, 512, 1024], "float32")
    given = to_numpy(EntropyInvariantSoftmax().temperature(n))
    expected = [reference.length_scale(int(i)) for i in n]
    np.testing.assert_allclose(given, expected, rtol=1e-6)
    assert given[4] == 1.0 and given[5] > 1.0
    assert given[0] == given[2] < given[3]
    assert to_numpy(EntropyInvariantSoftmax(min_length=1).temperature(n))[0] == 0.0
    assert to_numpy(EntropyInvariantSoftmax(1024).temperature(n))[5] == 1.0


def test_entropy_hardly_depends_on_the_length():
    # The claim the normalizer is named for, beside the plain softmax.
    def entropy(normalizer, n):
        logits = np.random.default_rng(0).normal(0, 3, size=(64, 1, 1, n))
        temperature = normalizer.temperature(keras.ops.convert_to_tensor(float(n)))
        heated = logits * (1.0 if temperature is None else float(temperature))
        weights = to_numpy(normalizer(heated.astype("float32"), float(n)))
        return -np.mean(np.sum(weights * np.log(np.maximum(weights, 1e-30)), -1))

    growth = [
        entropy(normalizer, 4096) - entropy(normalizer, 64)
        for normalizer in (EntropyInvariantSoftmax(), Softmax())
    ]
    assert growth[0] < 0.5 * growth[1]


def test_squared_relu_divides_by_the_keys_that_are_seen():
    logits = np.array([[[[2.0, -1.0, 3.0, -1e9]]]], "float32")
    given = to_numpy(SquaredReLU()(logits, np.array([[[[3.0]]]], "float32")))
    np.testing.assert_allclose(given[0, 0, 0], [4 / 3, 0, 3, 0], rtol=1e-6)
    nothing = to_numpy(
        SquaredReLU()(np.full((1, 1, 1, 2), -1e9, "float32"), 0.0 * logits[..., :1])
    )
    assert np.all(nothing == 0)


@pytest.mark.parametrize("bad", [{"base_length": 1}, {"min_length": 0}])
def test_senseless_lengths_are_refused(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"`{name}` must be .*{bad[name]}"):
        EntropyInvariantSoftmax(**bad)


@pytest.mark.parametrize(
    "normalizer",
    [Softmax(), SquaredReLU(), EntropyInvariantSoftmax(128, 4)],
    ids=lambda each: type(each).__name__,
)
def test_config_round_trip_and_equality(normalizer):
    config = attention_normalizer.serialize(normalizer)
    assert config["registered_name"].startswith("bert4keras3>")
    again = attention_normalizer.get(config)
    assert again == normalizer and hash(again) == hash(normalizer)
    assert again is not normalizer
    assert again != EntropyInvariantSoftmax(129, 4)


def test_the_base_class_asks_for_call():
    assert AttentionNormalizer().temperature(3.0) is None
    with pytest.raises(NotImplementedError):
        AttentionNormalizer()(np.zeros((1, 1, 1, 1)), 1.0)
