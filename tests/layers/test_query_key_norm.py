"""Norms of query and key against their formulas, and where they have no direction."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from gradients import gradient

from bert4keras3.layers import query_key_norm
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax
from bert4keras3.layers.query_key_norm import QUERY_KEY_NORMS, CosineNorm

RNG = np.random.default_rng(0)
B, N, T, S, H = 2, 3, 4, 6, 8
QUERY, KEY = (RNG.normal(size=(B, N, n, H)).astype("float32") for n in (T, S))
MASK = np.arange(S) < np.array([6, 4])[:, None, None, None]


def length(x):
    return np.sqrt((x.astype("float64") ** 2).sum(-1))


def formula(name, visible=1.0):
    products = np.einsum("bnth,bnsh->bnts", QUERY.astype("float64"), KEY)
    rows, columns = length(QUERY)[..., None], length(KEY)[:, :, None]
    return {
        "query_norm": products / rows,
        "key_norm": products / columns,
        "cosine": 4 * np.log(256) * products / rows / columns,
        "cosine of the row": 4 * np.log(visible) * products / rows / columns,
    }[name]


NORMS = {name: name for name in QUERY_KEY_NORMS}
NORMS["cosine of the row"] = CosineNorm(length=None)


@pytest.mark.parametrize("name", NORMS)
def test_against_the_formula(name):
    core = DotProductAttention(query_key_norm=NORMS[name])
    _, logits, weights = core(
        QUERY, KEY, KEY, attention_mask=MASK, return_logits=True, return_weights=True
    )
    expected = formula(name, np.array([6.0, 4.0])[:, None, None, None])
    np.testing.assert_allclose(to_numpy(logits), expected, atol=1e-5, rtol=1e-5)
    shares = np.exp(expected - expected.max(-1, keepdims=True)) * MASK
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(to_numpy(weights), shares, atol=1e-5)


def test_it_goes_with_log_n():
    """KNA-logn of the source: the norm, then the normalizer's temperature."""
    core = DotProductAttention(
        EntropyInvariantSoftmax(512, 1), query_key_norm="key_norm"
    )
    _, weights = core(QUERY, KEY, KEY, return_weights=True)
    logits = formula("key_norm") * np.log(S) / np.log(512)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(to_numpy(weights), expected, atol=1e-5)


@pytest.mark.parametrize("name", QUERY_KEY_NORMS)
def test_positions_come_after_the_norm(name):
    core = DotProductAttention(rotary_embedding="rope", query_key_norm=name)
    at = {"query_positions": np.zeros(T), "key_positions": np.zeros(S)}
    rotated = core(QUERY, KEY, KEY, **at)
    plain = DotProductAttention(query_key_norm=name)(QUERY, KEY, KEY)
    np.testing.assert_allclose(to_numpy(rotated), to_numpy(plain), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", QUERY_KEY_NORMS)
def test_low_precision_follows_float32(name, policy):
    expected = to_numpy(DotProductAttention(query_key_norm=name)(QUERY, KEY, KEY))
    core = DotProductAttention(query_key_norm=name, dtype=policy)
    error = np.abs(to_numpy(core(QUERY, KEY, KEY)) - expected).max()
    # The logits of the cosine reach 22, of which bfloat16 keeps 2**-9 * 22.
    assert error <= {"mixed_bfloat16": 2**-4, "mixed_float16": 2**-7}[policy]


@pytest.mark.parametrize("name", QUERY_KEY_NORMS)
def test_a_zero_vector_has_no_direction_and_no_nan(name):
    core = DotProductAttention(query_key_norm=name)
    query, key = QUERY.copy(), KEY.copy()
    query[0], key[0] = 0, 0
    assert np.all(np.isfinite(to_numpy(core(query, key, key))))
    for slope in gradient(lambda q, k: core(q, k, k), query, key):
        assert np.all(np.isfinite(slope))


def test_names_configs_and_instances():
    for name, kind in QUERY_KEY_NORMS.items():
        norm = query_key_norm.get(name)
        assert type(norm) is kind
        again = query_key_norm.get(query_key_norm.serialize(norm))
        assert type(again) is kind and again.get_config() == norm.get_config()
    assert query_key_norm.get(None) is query_key_norm.serialize(None) is None
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        query_key_norm.get("cosin")
    with pytest.raises(TypeError, match="query-key norm"):
        query_key_norm.get(keras.layers.Dense(2))


@pytest.mark.parametrize("length", [0, 1, -5])
def test_a_length_without_a_logarithm_is_refused(length):
    with pytest.raises(ValueError, match=f"above 1.*Received {length}"):
        CosineNorm(length)
