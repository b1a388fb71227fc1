"""Structural masks, pair by pair."""

import keras
import numpy as np
import pytest
import reference
from contract import to_numpy

from bert4keras3.layers import attention_mask
from bert4keras3.layers.attention_mask import ATTENTION_MASKS, AttentionMask

PADDING = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0] * 6], "int32")
# One answer; one answer with padding after it; segments that alternate.
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1]])


@pytest.mark.parametrize("padding_dtype", ["int32", "bool", "float32"])
@pytest.mark.parametrize("kind", ["bidirectional", "causal", "prefix"])
def test_visible_pairs(kind, padding_dtype):
    mask = attention_mask.get(kind)(PADDING.astype(padding_dtype), SEGMENTS)
    given = np.broadcast_to(to_numpy(mask), (3, 1, 6, 6))
    expected = reference.visible_keys(kind, PADDING, SEGMENTS)
    assert given.dtype == bool
    np.testing.assert_array_equal(given, expected)


def test_every_named_mask_is_tested_above():
    assert set(ATTENTION_MASKS) == {"bidirectional", "causal", "prefix"}


def test_the_prefix_reads_both_ways_and_the_answer_forwards():
    visible = to_numpy(attention_mask.get("prefix")(PADDING[:1], SEGMENTS[:1]))[0, 0]
    assert visible[:3, :3].all(), "the prefix sees itself"
    assert not visible[:3, 3:].any(), "the prefix never sees the answer"
    assert visible[3:, :3].all(), "the answer sees the prefix"
    np.testing.assert_array_equal(visible[3:, 3:], np.tril(np.ones((3, 3), bool)))


def test_without_an_answer_the_prefix_mask_is_bidirectional():
    segments = np.zeros_like(PADDING)
    prefix = to_numpy(attention_mask.get("prefix")(PADDING, segments))
    both = to_numpy(attention_mask.get("bidirectional")(PADDING))
    np.testing.assert_array_equal(prefix, np.broadcast_to(both, prefix.shape))


def test_the_causal_mask_is_right_beyond_what_bfloat16_counts():
    mask = attention_mask.get("causal")
    assert type(mask)(dtype="bfloat16").compute_dtype == "bfloat16"
    visible = to_numpy(type(mask)(dtype="bfloat16")(np.ones((1, 600), bool)))[0, 0]
    np.testing.assert_array_equal(visible.sum(-1), np.arange(1, 601))


def test_the_prefix_mask_needs_segments():
    with pytest.raises(ValueError, match="built from `segment_ids`"):
        attention_mask.get("prefix")(PADDING)


def test_padding_of_another_rank_is_refused():
    with pytest.raises(ValueError, match=r"`padding_mask` must have shape \(B, S\)"):
        attention_mask.get("bidirectional")(PADDING[:, None])


def test_names_and_instances():
    for name, kind in ATTENTION_MASKS.items():
        instance = attention_mask.get(name)
        assert type(instance) is kind
        assert attention_mask.get(instance) is instance
        config = keras.saving.serialize_keras_object(instance)
        assert type(attention_mask.get(config)) is kind
    with pytest.raises(ValueError, match="Did you mean 'causal'"):
        attention_mask.get("casual")
    for wrong in (None, True, keras.layers.Dense(1)):
        with pytest.raises(TypeError, match="attention mask"):
            attention_mask.get(wrong)


def test_a_mask_of_ones_own_is_one_method():
    class Window(AttentionMask):
        def structure(self, padding_mask, segment_ids):
            positions = keras.ops.arange(padding_mask.shape[1])
            return keras.ops.abs(positions[None] - positions[:, None]) <= 1

    visible = to_numpy(Window()(PADDING))[1, 0]
    expected = np.abs(np.subtract.outer(np.arange(6), np.arange(6))) <= 1
    np.testing.assert_array_equal(visible, expected & PADDING[1].astype(bool))
    with pytest.raises(NotImplementedError):
        AttentionMask()(PADDING)
