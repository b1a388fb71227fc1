"""Every scheme by name at a length of 1 and of 16,384."""

import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_bias import POSITION_BIASES
from bert4keras3.layers.attention_normalizer import NORMALIZERS
from bert4keras3.layers.position_weighting import POSITION_WEIGHTINGS
from bert4keras3.layers.query_key_norm import QUERY_KEY_NORMS
from bert4keras3.layers.rotary_embedding import ROTARY_EMBEDDINGS

FAMILIES = {
    "normalizer": NORMALIZERS,
    "rotary_embedding": ROTARY_EMBEDDINGS,
    "position_bias": POSITION_BIASES,
    "position_weighting": POSITION_WEIGHTINGS,
    "query_key_norm": QUERY_KEY_NORMS,
}
SCHEMES = [
    pytest.param(family, name, id=name)
    for family, table in FAMILIES.items()
    for name in table
]
# Their weight for a single key is another number than 1.
NOT_LIKE_SOFTMAX = {
    "squared_relu",
    "squared_relu_normalized",  # 0 for a negative logit
    "swish_l2",  # -1 for a negative logit
    "exponential",
    "laplace",
}
# They add to the values.
MOVE_THE_VALUES = {"shaw", "nezha"}
LENGTH, H, E = 16384, 8, 4


def normal(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(("family", "name"), SCHEMES)
def test_one_place(family, name):
    core = DotProductAttention(**{family: name})
    query, key = normal(2, 3, 1, H, seed=0), normal(2, 3, 1, H, seed=1)
    value = normal(2, 3, 1, H, seed=2)
    for positions in (None, np.array([16383.0], "float32")):
        output = core(
            query, key, value, query_positions=positions, key_positions=positions
        )
        output = to_numpy(output)
        assert output.shape == value.shape and np.all(np.isfinite(output))
        if name not in NOT_LIKE_SOFTMAX | MOVE_THE_VALUES:
            np.testing.assert_array_equal(output, value)


@pytest.mark.parametrize(("family", "name"), SCHEMES)
def test_the_last_of_16384_places(family, name):
    """One row of the matrix: a query at 16,383 that sees all keys up to itself."""
    core = DotProductAttention(**{family: name})
    query, key = normal(1, 1, 1, H, seed=3), normal(1, 1, LENGTH, H, seed=4)
    value = normal(1, 1, LENGTH, E, seed=5)
    output, logits, weights = core(
        query,
        key,
        value,
        query_positions=np.array([LENGTH - 1.0], "float32"),
        return_logits=True,
        return_weights=True,
    )
    output, logits, weights = (to_numpy(each) for each in (output, logits, weights))
    assert output.shape == (1, 1, 1, E)
    assert logits.shape == weights.shape == (1, 1, 1, LENGTH)
    assert all(np.all(np.isfinite(each)) for each in (output, logits, weights))
    assert weights.max() > 0
    if family != "normalizer":
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-4)
