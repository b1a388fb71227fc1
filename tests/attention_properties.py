"""Properties of every attention layer that no shape test can see.

`attend(x, padding_mask=..., attention_mask=..., positions=...)` calls a layer that maps
`(B, T, D)` to `(B, T, D)`; `make(dtype=...)` builds such a layer under a policy.
"""

import numpy as np
from contract import assign, named_weights, randomize, to_numpy
from gradients import compiled, gradient

B, T, D = 3, 9, 12
LENGTHS = np.array([9, 5, 1])
REAL = np.arange(T) < LENGTHS[:, None]

# Largest difference from float32, relative to the largest output, at positions 4080 to
# 4095. bfloat16 has 8 bits and float16 11; an attention layer rounds several times.
FAR_BOUNDS = {"mixed_bfloat16": 2**-5, "bfloat16": 2**-5, "mixed_float16": 2**-7}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def check_padding_content(attend):
    """What lies under the padding reaches no real position."""
    attend = compiled(attend)
    x = normal(B, T, D)
    expected = to_numpy(attend(x, padding_mask=REAL))
    other = np.where(REAL[..., None], x, 30 * normal(B, T, D, seed=1))
    given = to_numpy(attend(other, padding_mask=REAL))
    np.testing.assert_allclose(given[REAL], expected[REAL], atol=1e-5)
    # The same change at a real position is seen.
    moved = x.copy()
    moved[:, 0] += 1
    changed = np.abs(to_numpy(attend(moved, padding_mask=REAL)) - expected)
    assert changed[0, 1:].max() > 1e-3


def check_padded_length(attend):
    """How far the batch is padded changes no real position."""
    attend = compiled(attend)
    x = normal(B, T, D)
    expected = to_numpy(attend(x, padding_mask=REAL))
    longer = np.concatenate([x, normal(B, 23, D, seed=1)], axis=1)
    mask = np.concatenate([REAL, np.zeros((B, 23), bool)], axis=1)
    given = to_numpy(attend(longer, padding_mask=mask))[:, :T]
    np.testing.assert_allclose(given[REAL], expected[REAL], atol=1e-5)
    for row, length in enumerate(LENGTHS):
        alone = to_numpy(attend(x[row : row + 1, :length]))
        np.testing.assert_allclose(alone[0], expected[row, :length], atol=1e-5)


def check_causal(attend):
    """Under a causal mask a row is the same whatever comes after it."""
    attend = compiled(attend)
    causal = np.tril(np.ones((T, T), bool))
    x = normal(B, T, D)
    expected = to_numpy(attend(x, attention_mask=causal))
    for t in range(T - 1):
        other = x.copy()
        other[:, t + 1 :] = 30 * normal(B, T - t - 1, D, seed=1)
        given = to_numpy(attend(other, attention_mask=causal))
        np.testing.assert_allclose(given[:, : t + 1], expected[:, : t + 1], atol=1e-6)
        assert np.abs(given[:, t + 1 :] - expected[:, t + 1 :]).max() > 0.01
    assert np.all(np.isfinite(expected))


def check_empty_rows(attend):
    """A row of nothing but padding has finite outputs and gradients."""
    attend = compiled(attend)
    mask = REAL.copy()
    mask[2] = False
    x = normal(B, T, D)
    output = to_numpy(attend(x, padding_mask=mask))
    assert np.all(np.isfinite(output))
    (slope,) = gradient(lambda x: attend(x, padding_mask=mask), x)
    assert np.all(np.isfinite(slope)) and np.abs(slope[0]).max() > 0
    return output[2]


def check_positions(attend):
    """Default positions count from 0; only differences of positions matter."""
    attend = compiled(attend)
    x = normal(B, T, D)
    expected = to_numpy(attend(x))
    counted = to_numpy(attend(x, positions=np.arange(T)))
    np.testing.assert_allclose(counted, expected, atol=1e-6)
    by_row = np.tile(np.arange(T, dtype="float32"), (B, 1)) + [[0], [3], [500]]
    shifted = to_numpy(attend(x, positions=by_row.astype("float32")))
    np.testing.assert_allclose(shifted, expected, atol=2e-4)
    stretched = to_numpy(attend(x, positions=np.arange(T) * 2.5))
    assert np.abs(stretched - expected).max() > 1e-3


def check_far_positions(make, call, power=1):
    """At position 4095 low precision follows float32.

    Weights that are the `power` of a logit have that many times its relative error.

    The positions themselves, rounded to bfloat16, would break the bound: shown too.
    """
    x = normal(B, 16, D, seed=1)
    positions = np.arange(4080, 4096, dtype="float32")
    # What bfloat16 keeps of these numbers: every 16th.
    rounded = np.round(positions / 16) * 16
    exact = make(dtype="float32")
    exact.build(x.shape)
    values = randomize(exact, seed=1)
    run = compiled(lambda x, positions: call(exact, x, positions))
    expected = to_numpy(run(x, positions))
    scale = np.abs(expected).max()
    wrong = np.abs(to_numpy(run(x, rounded)) - expected).max()
    assert wrong > 2 * power * max(FAR_BOUNDS.values()) * scale, (
        "the test could not fail"
    )
    for policy, bound in FAR_BOUNDS.items():
        layer = make(dtype=policy)
        layer.build(x.shape)
        assert named_weights(layer).keys() == values.keys()
        assign(layer, values)
        run = compiled(lambda x, p, layer=layer: call(layer, x, p))
        error = np.abs(to_numpy(run(x, positions)) - expected).max()
        assert error <= power * bound * scale, (policy, error / scale)


def check_dropout(make):
    """`make(dropout=...)`: dropout acts in training only, anew at every call."""
    x = normal(B, T, D)
    plain, layer = make(dropout=0.0), make(dropout=0.5)
    plain(x), layer(x)
    assign(layer, randomize(plain))
    expected = to_numpy(plain(x))
    np.testing.assert_array_equal(to_numpy(layer(x)), expected)
    np.testing.assert_array_equal(to_numpy(layer(x, training=False)), expected)
    first = to_numpy(layer(x, training=True))
    assert np.abs(first - expected).max() > 0.01
    assert np.abs(first - to_numpy(layer(x, training=True))).max() > 0.01
