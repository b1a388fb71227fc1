"""Structural masks, pair by pair."""

import keras
import numpy as np
import pytest
import reference
from contract import to_numpy

from bert4keras3.layers import attention_mask
from bert4keras3.layers.attention_mask import (
    ATTENTION_MASKS,
    AttentionMask,
    BlockwiseCausalMask,
    HalfHeadsMask,
    LambdaMask,
    WindowMask,
    get_window,
)

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


# What query place i sees of key place j in head h of 4, and whether that is causal.
PAIRS = {
    "reverse_causal": (
        lambda: attention_mask.get("reverse_causal"),
        lambda h, i, j: j >= i,
        False,
    ),
    "half_heads": (
        lambda: attention_mask.get("half_heads").for_heads(4),
        lambda h, i, j: j <= i if h < 2 else j >= i,
        False,
    ),
    "window": (lambda: WindowMask(2), lambda h, i, j: 0 <= i - j < 2, True),
    "two_way": (lambda: WindowMask(2, True), lambda h, i, j: abs(i - j) < 2, False),
    "lambda": (
        lambda: LambdaMask(2, num_sinks=2),
        lambda h, i, j: j <= i and (j < 2 or i - j < 2),
        True,
    ),
    "lambda_all_sinks": (
        lambda: LambdaMask(1, num_sinks=9),
        lambda h, i, j: j <= i,
        True,
    ),
    "blockwise": (
        lambda: BlockwiseCausalMask(2),
        lambda h, i, j: j <= i and i // 2 - j // 2 in (0, 1),
        True,
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_visible_pairs_of_every_head(kind):
    make, sees, is_causal = PAIRS[kind]
    mask = make()
    expected = np.zeros((3, 4, 6, 6), bool)
    for b, h, i, j in np.ndindex(expected.shape):
        expected[b, h, i, j] = sees(h, i, j) and PADDING[b, j]
    given = to_numpy(mask(PADDING))
    np.testing.assert_array_equal(np.broadcast_to(given, expected.shape), expected)
    assert given.shape[1] == (4 if kind == "half_heads" else 1)
    assert mask.is_causal is is_causal


@pytest.mark.parametrize("name", ["documents", "causal_documents"])
def test_documents_of_a_row_do_not_see_each_other(name):
    numbers = np.array([[1, 1, 2, 2, 2, 0], [1, 2, 3, 0, 0, 0]])
    mask = attention_mask.get(name)
    given = to_numpy(mask(numbers))
    assert given.shape == (2, 1, 6, 6) and mask.is_causal is (name[0] == "c")
    for b, _, i, j in np.ndindex(given.shape):
        sees = numbers[b, i] == numbers[b, j] > 0 and (j <= i or not mask.is_causal)
        assert given[b, 0, i, j] == sees


def test_every_named_mask_is_tested_above():
    named = {"bidirectional", "causal", "prefix", "reverse_causal", "half_heads"}
    assert set(ATTENTION_MASKS) == named | {"documents", "causal_documents"}


def test_heads_are_only_for_those_that_need_them():
    for mask in (attention_mask.get("causal"), WindowMask(2), LambdaMask(2)):
        assert mask.for_heads(1) is mask
    half = attention_mask.get("half_heads")
    four = half.for_heads(4)
    assert (half.num_heads, four.num_heads) == (None, 4)
    assert four.for_heads(4) is four and four.for_heads(2).num_heads == 2
    with pytest.raises(ValueError, match=r"Call `mask.for_heads\(num_heads\)`"):
        half(PADDING)
    for wrong in (1, 3):
        with pytest.raises(ValueError, match=f"even number.*num_heads={wrong}.*single"):
            half.for_heads(wrong)
    with pytest.raises(ValueError, match="even number"):
        HalfHeadsMask(5)


@pytest.mark.parametrize("make", [LambdaMask, BlockwiseCausalMask])
@pytest.mark.parametrize("wrong", [0, -1, 1.5])
def test_a_reach_of_nothing_is_refused(make, wrong):
    with pytest.raises(ValueError, match=f"at least 1.*Received {wrong}"):
        make(wrong)


def test_a_lambda_mask_has_sinks():
    with pytest.raises(ValueError, match="`num_sinks`.*WindowMask.*Received 0"):
        LambdaMask(2, num_sinks=0)


def test_windows():
    assert get_window(None) is None
    window, sinks = get_window(3), LambdaMask(5, num_sinks=2)
    assert (type(window), window.window) == (WindowMask, 3)
    assert get_window(sinks) is sinks
    again = get_window(attention_mask.serialize(sinks))
    assert again.get_config() == sinks.get_config()
    for wrong in (attention_mask.get("causal"), BlockwiseCausalMask(2), True):
        with pytest.raises(TypeError, match="window"):
            get_window(wrong)


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
