"""Initialisers: the original's standard deviations, and seeds of their own."""

import json

import golden_layers
import keras
import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.layers.initializer import (
    DepthScaledTruncatedNormal,
    fresh,
    initializers_skipped,
)
from bert4keras3.layers.multi_head_attention import MultiHeadAttention

# What each class of the original passes to its initializer by default.
ORDERS = {"RoFormerV2": 2, "GAU_alpha": 3}


def test_golden_standard_deviations():
    path = golden_layers.LAYERS / "initializer_stddev.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert {row["cls"] for row in rows} == set(ORDERS)
    for row in rows:
        arguments = {"order": ORDERS[row["cls"]], **row["kwargs"]}
        initializer = DepthScaledTruncatedNormal(row["num_hidden_layers"], **arguments)
        given = initializer.stddev_for(row["shape"])
        assert given == pytest.approx(row["stddev"], rel=1e-12), row


@pytest.mark.parametrize("shape", [(400, 300), (12000, 64), (3, 5000)])
def test_samples_have_the_deviation_that_is_asked_for(shape):
    initializer = DepthScaledTruncatedNormal(12, order=3, gain=0.5, seed=1)
    sample = to_numpy(initializer(shape))
    before_cutting = initializer.stddev_for(shape)
    # Keras on torch draws four times at most, which leaves a few beyond the cut.
    assert np.mean(np.abs(sample) > 2.0001 * before_cutting) < 1e-4
    # Cutting a normal at two sigma leaves 1 / 1.13684723 of its deviation.
    assert sample.std() == pytest.approx(before_cutting / 1.13684723, rel=0.02)
    assert abs(sample.mean()) < 0.02 * sample.std() * 2


def test_a_shallow_wide_model_by_hand():
    # fan_in 100, 4 layers, order 2: 1.13684723 * 4 ** -0.5 / 10.
    assert DepthScaledTruncatedNormal(4).stddev_for((100, 7)) == pytest.approx(
        1.13684723 / 20
    )


def test_config_round_trip():
    initializer = DepthScaledTruncatedNormal(6, order=3, gain=0.5, seed=7)
    config = keras.initializers.serialize(initializer)
    again = keras.initializers.deserialize(json.loads(json.dumps(config)))
    assert type(again) is DepthScaledTruncatedNormal
    assert again.get_config() == initializer.get_config()
    np.testing.assert_array_equal(
        to_numpy(initializer((20, 3))), to_numpy(again((20, 3)))
    )
    assert DepthScaledTruncatedNormal(6).get_config()["seed"] is None


def test_a_fresh_copy_has_a_seed_of_its_own_unless_one_was_given():
    for given in (DepthScaledTruncatedNormal(2), keras.initializers.GlorotUniform()):
        one, other = fresh(given), fresh(given)
        assert np.abs(to_numpy(one((9, 9))) - to_numpy(other((9, 9)))).max() > 1e-3
    seeded = DepthScaledTruncatedNormal(2, seed=3)
    np.testing.assert_array_equal(
        to_numpy(fresh(seeded)((4, 4))), to_numpy(fresh(seeded)((4, 4)))
    )


def test_skipped_initializers_give_zeros_and_leave_the_config():
    with initializers_skipped():
        layer = MultiHeadAttention(2, 4, kernel_initializer="he_normal")
        layer.build((None, 3, 8))
    assert all(np.all(to_numpy(variable) == 0) for variable in layer.weights)
    assert layer.get_config()["kernel_initializer"]["class_name"] == "HeNormal"
    layer = MultiHeadAttention(2, 4)
    layer.build((None, 3, 8))
    assert np.abs(to_numpy(layer.query_dense.kernel)).max() > 0


def test_skipping_ends_with_an_error_too():
    with pytest.raises(RuntimeError, match="stop"), initializers_skipped():
        raise RuntimeError("stop")
    assert not isinstance(fresh(keras.initializers.Ones()), keras.initializers.Zeros)
