"""Window attention in blocks equals full attention under the window's mask."""

import keras
import numpy as np
import pytest
from contract import assign, randomize, to_numpy
from gradients import compiled, gradient

from bert4keras3.layers.attention_mask import LambdaMask, WindowMask
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.rotary_frequencies import DynamicNTK
from bert4keras3.layers.rotary_products import XPOS

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


def run(function):
    """The output for `X` as an array."""
    return to_numpy(compiled(function)(X))


@pytest.mark.parametrize("two_way", [False, True])
@pytest.mark.parametrize("window", [1, 4, 7, 10, 30])
@pytest.mark.parametrize("kind", LAYERS)
def test_blocks_equal_masked_full_attention(kind, window, two_way):
    mask = WindowMask(window, two_way)
    blocks, full = twins(kind, mask)
    given = run(lambda x: blocks(x, padding_mask=REAL))
    expected = run(lambda x: full(x, attention_mask=mask(REAL)))
    np.testing.assert_allclose(given, expected, atol=1e-5)


# Sinks beside, inside and across the first block; a row that is computed whole.
@pytest.mark.parametrize("window, num_sinks", [(4, 1), (4, 4), (3, 7), (1, 2), (9, 2)])
@pytest.mark.parametrize("kind", LAYERS)
def test_blocks_with_sinks_equal_masked_full_attention(kind, window, num_sinks):
    mask = LambdaMask(window, num_sinks)
    blocks, full = twins(kind, mask)
    given = run(lambda x: blocks(x, padding_mask=REAL))
    expected = run(lambda x: full(x, attention_mask=mask(REAL)))
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_padded_sink_is_hidden():
    # softmax_plus counts the visible keys, so one too many would show.
    mask, real = LambdaMask(3, num_sinks=4), REAL.copy()
    real[:, 1] = False
    blocks, full = twins("attention", mask)
    given = run(lambda x: blocks(x, padding_mask=real))
    expected = run(lambda x: full(x, attention_mask=mask(real)))
    np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("mask", [WindowMask(4), LambdaMask(4, 3)], ids=["window", "Λ"])
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_equal(kind, mask):
    blocks, full = twins(kind, mask)
    (given,) = gradient(lambda x: blocks(x, padding_mask=REAL), X)
    (expected,) = gradient(lambda x: full(x, attention_mask=mask(REAL)), X)
    np.testing.assert_allclose(given, expected, atol=1e-4)


@pytest.mark.parametrize("mask", [WindowMask(4), LambdaMask(4, 3)], ids=["window", "Λ"])
def test_custom_positions_reach_the_blocks(mask):
    blocks, full = twins("attention", mask)
    positions = np.cumsum(np.random.default_rng(1).integers(1, 5, (B, T)), axis=1)
    given = run(lambda x: blocks(x, padding_mask=REAL, query_positions=positions))
    expected = run(
        lambda x: full(x, attention_mask=mask(REAL), query_positions=positions)
    )
    np.testing.assert_allclose(given, expected, atol=1e-5)
    natural = run(lambda x: blocks(x, padding_mask=REAL))
    assert np.abs(given - natural).max() > 1e-3


ROW_SCHEMES = {
    "dynamic_ntk": lambda: DynamicNTK(train_length=5),
    "dynamic_ntk within": lambda: DynamicNTK(train_length=40),
    # Decays by exp(40) from the positions below to 0.
    "xpos": lambda: XPOS(scale_base=1),
}


@pytest.mark.parametrize("mask", [WindowMask(4), LambdaMask(4, 3)], ids=["window", "Λ"])
@pytest.mark.parametrize("kind", ["none", "shared", "by row"])
@pytest.mark.parametrize("scheme", ROW_SCHEMES)
def test_blocks_know_the_whole_row(scheme, kind, mask):
    """The scale of dynamic NTK is that of the row; the centre of XPOS cancels."""
    if scheme == "xpos":
        mask = WindowMask(4)  # a sink is too far away for such a decay
    start = 400 if scheme == "xpos" else 40
    shared = np.arange(T) + start
    by_row = np.stack([np.arange(T), 2 * np.arange(T) + start])
    positions = {"none": None, "shared": shared, "by row": by_row}[kind]
    make = ROW_SCHEMES[scheme]
    blocks = MultiHeadAttention(2, 6, window=mask, rotary_embedding=make())
    full = MultiHeadAttention(2, 6, rotary_embedding=make())
    blocks.build(X.shape), full.build(X.shape)
    assign(full, randomize(blocks))
    given = run(lambda x: blocks(x, padding_mask=REAL, query_positions=positions))
    expected = run(
        lambda x: full(x, attention_mask=mask(REAL), query_positions=positions)
    )
    np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("mask", [WindowMask(4), LambdaMask(4, 6)], ids=["window", "Λ"])
def test_unknown_length_and_batch(mask):
    blocks, _ = twins("attention", mask)
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, blocks(inputs))
    # Shorter than the sinks, shorter than two blocks, several blocks.
    for length in (3, 8, T):
        given = to_numpy(compiled(model)(X[:, :length]))
        expected = to_numpy(compiled(blocks)(X[:, :length]))
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


@pytest.mark.parametrize("window", [0, -3, 2.5])
def test_a_window_that_sees_nothing_is_refused(window):
    with pytest.raises(ValueError, match=f"at least 1.*Received {window}"):
        WindowMask(window)
