"""Norms of query and key, against their formulas."""

import numpy as np
import position_properties as properties
import pytest
import reference_positions as reference
from contract import to_numpy
from gradients import gradient
from keras import ops

from bert4keras3.layers import query_key_norm
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.query_key_norm import CosineNorm, KeyNorm, QueryNorm

normal = properties.normal
NORMS = {
    "query_norm": (QueryNorm(), lambda q, k, n: reference.query_norm(q, k, n)),
    "key_norm": (KeyNorm(), lambda q, k, n: reference.key_norm(q, k, n)),
    "cosine": (CosineNorm(20), lambda q, k, n: reference.cosine(q, k, n, 20)),
    "cosine_of_visible_keys": (
        CosineNorm(None),
        lambda q, k, n: reference.cosine(q, k, n, None),
    ),
}


@pytest.fixture(params=NORMS)
def norm(request):
    return NORMS[request.param]


def test_in_both_attention_layers(norm):
    norm, logit = norm
    counts = properties.VISIBLE.sum(-1)

    def logits(query, key, w, scale):
        result = np.empty((*query.shape[:-1], key.shape[-2]))
        for b, h, t, s in np.ndindex(result.shape):
            result[b, h, t, s] = logit(query[b, h, t], key[b, h, s], counts[b])
        return result

    properties.check_in_attention(logits, query_key_norm=norm)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(norm, dtype):
    query, key = (ops.cast(normal(1, 2, 5, 8, seed=s), dtype) for s in (0, 1))
    exact = norm[0](ops.cast(query, "float32"), ops.cast(key, "float32"), 5.0)
    # Rounded once, on the way out.
    bound = {"bfloat16": 2**-8, "float16": 2**-11}[dtype]
    for given, expected in zip(norm[0](query, key, 5.0), exact, strict=True):
        assert given.dtype == query.dtype
        np.testing.assert_allclose(to_numpy(given), to_numpy(expected), rtol=bound)


def test_zero_vectors_have_finite_slopes(norm):
    attention = DotProductAttention(query_key_norm=norm[0])
    x = normal(1, 2, 4, 6)
    x[0, :, 1] = 0
    output = to_numpy(attention(x, x, x))
    assert np.all(np.isfinite(output))
    (slope,) = gradient(lambda x: attention(x, x, x), x)
    assert np.all(np.isfinite(slope))


def test_the_length_of_a_normed_vector_does_not_matter():
    query, key = normal(1, 1, 3, 8), normal(1, 1, 4, 8, seed=1)
    for norm, factors in (
        (QueryNorm(), (50.0, 1.0)),
        (KeyNorm(), (1.0, 50.0)),
        (CosineNorm(), (50.0, 0.02)),
    ):
        attention = DotProductAttention(query_key_norm=norm)
        expected = to_numpy(attention(query, key, key))
        given = to_numpy(attention(query * factors[0], key * factors[1], key))
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_names_configs_and_refusals():
    assert set(query_key_norm.QUERY_KEY_NORMS) == {"query_norm", "key_norm", "cosine"}
    for norm, _ in NORMS.values():
        again = query_key_norm.get(query_key_norm.serialize(norm))
        assert type(again) is type(norm) and again.get_config() == norm.get_config()
    assert query_key_norm.get("cosine").length == 256
    with pytest.raises(ValueError, match="`length` must be above 1.*Received 1"):
        CosineNorm(1)
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        query_key_norm.get("cosin")
