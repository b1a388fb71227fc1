"""Pooling over tokens: fixtures, padding, rows without a token."""

import golden_layers
import numpy as np
import pytest
from contract import to_numpy
from gradients import gradient

from bert4keras3.layers import pooling
from bert4keras3.layers.pooling import (
    AttentionPooling,
    FirstTokenPooling,
    MaskedAveragePooling,
    MaskedMaxPooling,
)

RNG = np.random.default_rng(2)
POOLINGS = {"gap1d": MaskedAveragePooling, "gmp1d": MaskedMaxPooling}


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


@pytest.mark.parametrize("name", golden_layers.names("gap1d", "gmp1d"))
def test_golden_pooling(name):
    case = golden_layers.read(name)
    layer = POOLINGS[name.partition("_")[0]]()
    given = to_numpy(layer(case.inputs["x"], case.masks["x"]))
    np.testing.assert_allclose(given, case.outputs[0], atol=1e-5)


@pytest.mark.parametrize("kind", sorted(POOLINGS))
def test_against_the_formula(kind):
    x = normal(3, 6, 4) - 3.0
    mask = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]])
    given = to_numpy(POOLINGS[kind]()(x, mask))
    for row in range(3):
        tokens = x[row, mask[row] == 1]
        expected = tokens.mean(0) if kind == "gap1d" else tokens.max(0)
        np.testing.assert_allclose(given[row], expected, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(POOLINGS[kind]()(x))[0], given[0], rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", sorted(POOLINGS))
def test_padding_takes_no_part(kind, policy):
    layer = POOLINGS[kind](dtype=policy)
    x = normal(3, 6, 4)
    mask = np.array([[1] * 6, [1, 1, 1, 0, 0, 0], [0] * 6])
    before = to_numpy(layer(x, mask))
    assert np.all(before[2] == 0)
    dirty = x.copy()
    dirty[1, 3:] = 6e4
    dirty[2] = np.nan
    longer = np.concatenate([dirty, normal(3, 5, 4)], axis=1)
    after = to_numpy(layer(longer, np.pad(mask, ((0, 0), (0, 5)))))
    np.testing.assert_allclose(after, before, atol=1e-5)
    given = gradient(lambda x: layer(x, mask), x)[0]
    assert np.all(np.isfinite(given))
    assert np.all(given[2] == 0) and np.all(given[1, 3:] == 0)
    assert np.all(np.abs(given[0]).sum(0) > 0)


def test_a_long_mean_is_summed_in_float32():
    # 4096 ones add up to 256 in bfloat16.
    layer = MaskedAveragePooling(dtype="bfloat16")
    given = to_numpy(layer(np.ones((1, 4096, 2), "float32"), np.ones((1, 4096))))
    np.testing.assert_allclose(given, 1.0, atol=1e-3)


def test_very_negative_tokens_are_not_taken_for_padding():
    x = np.full((1, 2, 3), -1e20, "float32")
    given = to_numpy(MaskedMaxPooling()(x, np.array([[1, 0]])))
    np.testing.assert_allclose(given, -1e20, rtol=1e-6)


def test_first_token_and_attention_against_the_formula():
    x = normal(3, 6, 4)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1], [0] * 6])
    first = to_numpy(FirstTokenPooling()(x, mask))
    np.testing.assert_array_equal(first, [x[0, 0], x[1, 0], 0 * x[2, 0]])
    layer = AttentionPooling()
    np.testing.assert_allclose(
        to_numpy(layer(x, mask)), to_numpy(MaskedAveragePooling()(x, mask)), atol=1e-6
    )
    weights = normal(4, 1)
    layer.set_weights([weights])
    given = to_numpy(layer(x, mask))
    for row in range(2):
        tokens = x[row, mask[row] == 1]
        shares = np.exp(tokens @ weights)
        expected = (shares * tokens).sum(0) / shares.sum()
        np.testing.assert_allclose(given[row], expected, atol=1e-5)
    assert np.all(given[2] == 0)
    dirty = np.where(mask[..., None] == 1, x, np.nan).astype("float32")
    np.testing.assert_allclose(to_numpy(layer(dirty, mask)), given, atol=1e-6)


@pytest.mark.parametrize("name", sorted(pooling.POOLINGS))
def test_poolings_by_name(name):
    layer = pooling.get(name, dtype="mixed_bfloat16", name="pooling")
    again = pooling.get(pooling.serialize(layer))
    assert type(again) is pooling.POOLINGS[name] and again.name == "pooling"
    assert again.dtype_policy.name == "mixed_bfloat16"
