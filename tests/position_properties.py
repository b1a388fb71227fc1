"""What every rotary variant and every query-key norm must do, as plain functions."""

import numpy as np
import reference_positions as reference
from contract import randomize, to_numpy
from keras import ops

from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.multi_head_attention import MultiHeadAttention

B, T = 2, 7
VISIBLE = np.arange(T) < np.array([[T], [4]])
# Of scores in bfloat16 from the same bfloat16 vectors, relative to the largest: each
# turned vector and the product are rounded to 8 bits once.
FAR_BOUND = 2**-6


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def check_in_attention(logits, positions=None, atol=1e-5, **arguments):
    """Both attention layers, with padding, give what NumPy gives for real rows.

    `logits(q, k, w, scale)` are those of NumPy, `w` the weights by path and `scale` the
    `1 / sqrt(H)` that the layer multiplies.
    """
    x = normal(B, T, 12)
    visible = VISIBLE[:, None, None]
    for layer, width in (
        (MultiHeadAttention(2, 8, **arguments), 8),
        (GatedAttentionUnit(10, key_dim=8, normalizer="softmax", **arguments), 8),
    ):
        options = {} if positions is None else positions_of(layer, positions)
        layer(x, padding_mask=VISIBLE, **options)
        w = randomize(layer)
        given = to_numpy(layer(x, padding_mask=VISIBLE, **options))

        def of_row(q, k, w=w, width=width):
            return logits(q, k, w, width**-0.5)

        if isinstance(layer, MultiHeadAttention):
            expected = reference.multi_head_attention(x, w, 2, of_row, visible)
        else:
            expected = reference.gau(x, w, of_row, visible)
        np.testing.assert_allclose(given[VISIBLE], expected[VISIBLE], atol=atol)


def positions_of(layer, positions):
    if isinstance(layer, GatedAttentionUnit):
        return {"positions": positions}
    return {"query_positions": positions, "key_positions": positions}


def check_far_positions(rotary):
    """bfloat16 at positions 4080 to 4095 follows float32."""
    positions = np.arange(4080, 4096, dtype="float32")
    query, key = (
        ops.cast(normal(1, 2, 16, 8, seed=seed), "bfloat16") for seed in (1, 2)
    )
    exact = [ops.cast(x, "float32") for x in (query, key)]
    seen = np.tril(np.ones((16, 16), bool)) if rotary.needs_causal_mask else True
    expected = to_numpy(rotary.scores(*exact, positions, positions)) * seen
    given = to_numpy(rotary.scores(query, key, positions, positions)) * seen
    error = np.abs(given - expected).max() / np.abs(expected).max()
    assert error <= FAR_BOUND, error


def check_shift(rotary, shift, atol=1e-3):
    """Scores depend on the differences of positions only."""
    query, key = normal(2, 2, 5, 8), normal(2, 2, 6, 8, seed=1)
    at, keys_at = np.arange(5) * 40, np.arange(6) * 31
    expected = to_numpy(rotary.scores(query, key, at, keys_at))
    scale = np.abs(expected).max()
    by_row = np.array([[0], [shift]])
    given = to_numpy(rotary.scores(query, key, at + by_row, keys_at + by_row))
    np.testing.assert_allclose(given, expected, atol=atol * scale)
    moved = to_numpy(rotary.scores(query, key, at + 8, keys_at))
    assert np.abs(moved - expected).max() > 1e-3


def check_lengths(rotary):
    """One place, and few queries over 16384 keys: finite."""
    one = normal(1, 1, 1, 8)
    assert to_numpy(rotary.scores(one, one)).shape == (1, 1, 1, 1)
    long = normal(1, 1, 16384, 8)
    last = np.array([16382.0, 16383.0], "float32")
    scores = to_numpy(rotary.scores(long[..., -2:, :], long, last))
    assert scores.shape == (1, 1, 2, 16384) and np.all(np.isfinite(scores))
    first = to_numpy(rotary.scores(long[..., :2, :], long))
    assert np.all(np.isfinite(first))
