"""Window attention in blocks equals full attention under the window's mask."""

import keras
import numpy as np
import pytest
from contract import assign, randomize, to_numpy
from gradients import gradient

from bert4keras3.layers.attention_mask import CausalMask
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.local_mask import (
    BlockwiseCausalMask,
    LambdaMask,
    WindowMask,
)
from bert4keras3.layers.multi_head_attention import MultiHeadAttention

B, T, D = 2, 19, 12
X = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
REAL = np.arange(T) < np.array([[T], [12]])
SCHEMES = dict(rotary_embedding="rope", position_bias="t5", normalizer="softmax_plus")
LAYERS = {
    "attention": lambda **options: MultiHeadAttention(2, 6, **SCHEMES, **options),
    "gau": lambda **options: GatedAttentionUnit(16, 6, **SCHEMES, **options),
}


def twins(kind, window):
    """The same layer with the window in blocks, and without a window."""
    blocks, full = LAYERS[kind](window=window), LAYERS[kind]()
    blocks.build(X.shape), full.build(X.shape)
    assign(full, randomize(blocks))
    return blocks, full


MASKS = {
    **{f"window {w}": WindowMask(w) for w in (1, 4, 7, 10, 30)},
    **{f"two-way window {w}": WindowMask(w, two_way=True) for w in (1, 4, 6, 30)},
    **{f"{s} sinks": LambdaMask(3, num_sinks=s) for s in (0, 1, 4, 9)},
    "wide, with sinks": LambdaMask(8, num_sinks=3),
    **{f"blocks of {w}": BlockwiseCausalMask(w) for w in (1, 4, 8, 30)},
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("kind", LAYERS)
def test_blocks_equal_masked_full_attention(kind, mask):
    blocks, full = twins(kind, mask)
    given = to_numpy(blocks(X, padding_mask=REAL))
    expected = to_numpy(full(X, attention_mask=mask(REAL)))
    np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize(
    "mask", [WindowMask(4), LambdaMask(3)], ids=["window", "sinks"]
)
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_equal(kind, mask):
    blocks, full = twins(kind, mask)
    (given,) = gradient(lambda x: blocks(x, padding_mask=REAL), X)
    (expected,) = gradient(lambda x: full(x, attention_mask=mask(REAL)), X)
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_custom_positions_reach_the_blocks():
    mask = WindowMask(4)
    blocks, full = twins("attention", mask)
    positions = np.cumsum(np.random.default_rng(1).integers(1, 5, (B, T)), axis=1)
    given = to_numpy(blocks(X, padding_mask=REAL, query_positions=positions))
    expected = full(X, attention_mask=mask(REAL), query_positions=positions)
    np.testing.assert_allclose(given, to_numpy(expected), atol=1e-5)
    assert np.abs(given - to_numpy(blocks(X, padding_mask=REAL))).max() > 1e-3


@pytest.mark.parametrize(
    "mask", [WindowMask(4), LambdaMask(3)], ids=["window", "sinks"]
)
def test_unknown_length_and_batch(mask):
    blocks, _ = twins("attention", mask)
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, blocks(inputs))
    for length in (3, 8, T):
        given = to_numpy(model(X[:, :length]))
        expected = to_numpy(blocks(X[:, :length]))
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_what_cannot_be_cut_into_blocks_is_refused():
    layer = MultiHeadAttention(2, 6, window=3)
    layer.build(X.shape)
    with pytest.raises(ValueError, match="padding mask alone"):
        layer(X, attention_mask=np.ones((T, T), bool))
    with pytest.raises(ValueError, match="no T x S matrix"):
        layer(X, attention_bias=np.zeros((T, T), "float32"))
    with pytest.raises(ValueError, match="no T x S matrix"):
        layer(X, return_weights=True)
    with pytest.raises(ValueError, match="19 queries and 7 keys"):
        layer(X, X[:, :7])


def test_a_mask_that_is_not_local_is_refused():
    with pytest.raises(TypeError, match="local mask"):
        MultiHeadAttention(2, 6, window=CausalMask())


@pytest.mark.parametrize("window", [0, -3, 2.5])
def test_a_window_that_sees_nothing_is_refused(window):
    with pytest.raises(ValueError, match=f"at least 1.*Received {window}"):
        WindowMask(window)
