"""Attention schedules, layer by layer."""

import json

import keras
import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.layers import attention_schedule
from bert4keras3.layers.attention_mask import (
    ATTENTION_MASKS,
    LambdaMask,
    WindowMask,
)
from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax
from bert4keras3.layers.attention_schedule import (
    ATTENTION_SCHEDULES,
    HWFA,
    HWFA2,
    AlternateLayers,
    AttentionSchedule,
    Uniform,
)
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.structural_masks import CausalMask, ReverseCausalMask

SCHEDULES = [
    Uniform("half_heads"),
    Uniform(LambdaMask(4, num_sinks=1)),
    AlternateLayers(),
    HWFA(window=3, train_length=64, min_length=2),
    HWFA2(window=5, num_full_layers=2, full_rotary_embedding="rope"),
    HWFA2(full_rotary_embedding=RotaryEmbedding(max_wavelength=500.0)),
]


def kinds(schedule, num_layers):
    return [type(schedule.mask(layer, num_layers)) for layer in range(num_layers)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: type(each).__name__)
def test_config_through_json(schedule):
    config = json.loads(json.dumps(attention_schedule.serialize(schedule)))
    again = attention_schedule.get(config)
    assert again == schedule and hash(again) == hash(schedule)
    assert again is not schedule and attention_schedule.get(schedule) is schedule
    assert kinds(again, 6) == kinds(schedule, 6)
    real = np.ones((1, 7), bool)
    for layer in range(6):
        if type(schedule) is not Uniform:
            assert again.normalizer(layer, 6, "softmax") == schedule.normalizer(
                layer, 6, "softmax"
            )
        one, other = (
            to_numpy(each.mask(layer, 6).for_heads(2)(real))
            for each in (schedule, again)
        )
        np.testing.assert_array_equal(one, other)


def test_a_name_of_a_mask_is_kept_in_configs():
    assert len(ATTENTION_MASKS) >= 5
    for name, kind in ATTENTION_MASKS.items():
        schedule = attention_schedule.get(name)
        assert type(schedule) is Uniform and kinds(schedule, 3) == [kind] * 3
        assert attention_schedule.serialize(schedule) == name
        assert attention_schedule.get(kind()) == schedule
    half = attention_schedule.get(ATTENTION_MASKS["half_heads"](4))
    assert isinstance(attention_schedule.serialize(half), dict)
    assert half.mask(0, 1).num_heads == 4


def test_names_of_schedules_and_of_masks():
    assert len(ATTENTION_SCHEDULES) >= 3
    for name, kind in ATTENTION_SCHEDULES.items():
        assert type(attention_schedule.get(name)) is kind
        assert attention_schedule.get(name) == kind()
    window = keras.saving.serialize_keras_object(WindowMask(4))
    assert attention_schedule.get(window).mask(1, 2).window == 4
    with pytest.raises(ValueError, match="'alternate_layers'.*causal.*prefix"):
        attention_schedule.get("alternate_layer")
    with pytest.raises(ValueError, match="mask or schedule.*Did you mean 'causal'"):
        attention_schedule.get("casual")
    for wrong in (None, 3, keras.layers.Dense(1)):
        with pytest.raises(TypeError, match="attention mask or schedule"):
            attention_schedule.get(wrong)


def test_uniform_leaves_all_else_to_the_model():
    schedule = Uniform("causal")
    assert schedule.mask(0, 2) is schedule.mask(1, 2)
    assert schedule.rotary_embedding(1, 2, "rope") == "rope"
    assert schedule.normalizer(1, 2, "softmax") == "softmax"
    with pytest.raises(NotImplementedError):
        AttentionSchedule().mask(0, 1)


def test_alternate_layers_begin_causal():
    schedule = AlternateLayers()
    assert kinds(schedule, 3) == [CausalMask, ReverseCausalMask, CausalMask]
    assert schedule.mask(0, 3) is schedule.mask(2, 3)


def test_hwfa_has_one_full_layer_without_positions():
    schedule = HWFA(window=16, train_length=64, min_length=2)
    assert kinds(schedule, 4) == [WindowMask] * 3 + [CausalMask]
    assert schedule.mask(0, 4).window == 16 and not schedule.mask(0, 4).two_way
    rotary = [schedule.rotary_embedding(layer, 4, "rope") for layer in range(4)]
    assert rotary == ["rope"] * 3 + [None]
    normalizers = [schedule.normalizer(layer, 4, "softmax") for layer in range(4)]
    assert normalizers == ["softmax"] * 3 + [EntropyInvariantSoftmax(64, 2)]


@pytest.mark.parametrize("length, num_layers", [(512, 24), (128, 4), (64, 2), (20, 9)])
def test_the_window_for_a_training_length_is_the_largest(length, num_layers):
    schedule = HWFA.for_training_length(length, num_layers, min_length=3)
    assert (schedule.train_length, schedule.min_length) == (length, 3)

    def reach(window):
        return (window - 1) * (num_layers - 1) + 1

    assert reach(schedule.window) <= 0.75 * length < reach(schedule.window + 1)


def test_the_window_of_the_source_fits_its_training_length():
    assert HWFA().window == 16 <= HWFA.for_training_length(512, 24).window == 17


@pytest.mark.parametrize(
    "num_full_layers, num_layers, full",
    [(1, 24, [12]), (2, 24, [8, 16]), (1, 2, [1]), (2, 3, [1, 2]), (1, 7, [3])],
)
def test_hwfa2_has_full_layers_in_the_middle(num_full_layers, num_layers, full):
    schedule = HWFA2(window=8, num_full_layers=num_full_layers)
    expected = [
        CausalMask if layer in full else WindowMask for layer in range(num_layers)
    ]
    assert kinds(schedule, num_layers) == expected
    for layer in range(num_layers):
        assert schedule.rotary_embedding(layer, num_layers, "rope") == "rope"
        assert schedule.normalizer(layer, num_layers, "softmax") == "softmax"


def test_hwfa2_changes_the_positions_of_the_full_layers():
    mine = RotaryEmbedding(max_wavelength=500.0)
    schedule = HWFA2(full_rotary_embedding=mine)
    given = [schedule.rotary_embedding(layer, 4, "rope") for layer in range(4)]
    assert given == ["rope", "rope", mine, "rope"]
    lazy = HWFA2(full_rotary_embedding="ropey")
    assert lazy.rotary_embedding(0, 4, "rope") == "rope"
    with pytest.raises(ValueError, match="Unknown rotary embedding 'ropey'"):
        lazy.rotary_embedding(2, 4, "rope")


def test_what_cannot_be_scheduled_is_refused():
    for schedule in SCHEDULES:
        for wrong in (-1, 4):
            with pytest.raises(ValueError, match=f"last of 4 is 3.*layer={wrong}"):
                schedule.mask(wrong, 4)
    with pytest.raises(ValueError, match="at least 2 layers"):
        HWFA.for_training_length(64, 1)
    with pytest.raises(ValueError, match="12 layers and a training length of 8"):
        HWFA.for_training_length(8, 12)
    with pytest.raises(ValueError, match="`window`"):
        HWFA(window=0)
    with pytest.raises(ValueError, match="`base_length`"):
        HWFA(train_length=1)
    with pytest.raises(ValueError, match="`num_full_layers`.*Received 0"):
        HWFA2(num_full_layers=0)
    with pytest.raises(ValueError, match="at least 3 layers"):
        HWFA2(num_full_layers=2).mask(0, 2)
