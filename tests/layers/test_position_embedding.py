"""Learned absolute positions."""

import numpy as np
import pytest
from contract import named_weights, randomize, to_numpy

from bert4keras3.layers.position_embedding import PositionEmbedding

RNG = np.random.default_rng(31)
X = RNG.normal(size=(2, 4, 6)).astype("float32")


def random_layer(rows=9, **options):
    layer = PositionEmbedding(rows, **options)
    layer.build(X.shape)
    return layer, randomize(layer)["embeddings"]


def test_positions_count_from_zero():
    layer, table = random_layer()
    np.testing.assert_allclose(to_numpy(layer(X)), X + table[:4], atol=1e-6)


@pytest.mark.parametrize("positions", [[8, 0, 3, 3], [[8, 0, 3, 3], [1, 2, 7, 0]]])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_positions_of_ones_own(positions, dtype):
    layer, table = random_layer()
    positions = np.array(positions, dtype)
    given = to_numpy(layer(X, positions))
    np.testing.assert_allclose(given, X + table[positions], atol=1e-6)


def test_a_text_that_fits_just_so_and_one_that_does_not():
    layer, _ = random_layer(rows=4)
    layer(X)
    longer = np.zeros((1, 5, 6), "float32")
    with pytest.raises(ValueError, match="5 tokens does not fit .* of 4"):
        layer(longer)


def test_high_positions_are_not_rounded_under_a_bfloat16_policy():
    # In bfloat16, 4093 to 4095 would all be row 4096.
    layer, table = random_layer(rows=4096, dtype="mixed_bfloat16")
    zeros = np.zeros((1, 3, 6), "float32")
    given = to_numpy(layer(zeros, np.array([4093, 4094, 4095])))
    np.testing.assert_allclose(given[0], table[4093:], rtol=2**-8)
    assert set(named_weights(layer)) == {"embeddings"}
