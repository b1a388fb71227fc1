"""The pooler: a dense layer on the first position."""

import numpy as np
import pytest
import reference
from contract import randomize, to_numpy

from bert4keras3.layers.pooler import Pooler

RNG = np.random.default_rng(29)


@pytest.mark.parametrize("activation", ["tanh", "linear"])
def test_against_the_formula(activation):
    x = RNG.normal(size=(3, 4, 5)).astype("float32")
    layer = Pooler(activation)
    layer.build(x.shape)
    weights = randomize(layer)
    expected = reference.dense(x[:, 0].astype("float64"), weights, "dense", activation)
    np.testing.assert_allclose(to_numpy(layer(x)), expected, atol=1e-5)


def test_only_the_first_position_counts():
    x = RNG.normal(size=(3, 4, 5)).astype("float32")
    layer = Pooler()
    expected = to_numpy(layer(x))
    other = x.copy()
    other[:, 1:] = 7
    np.testing.assert_array_equal(to_numpy(layer(other)), expected)
    other[:, 0] += 1
    assert np.abs(to_numpy(layer(other)) - expected).max() > 0.01


def test_unknown_activations_are_refused():
    with pytest.raises(ValueError, match="tanhh"):
        Pooler("tanhh")
