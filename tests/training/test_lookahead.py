"""Lookahead against plain NumPy, round optimizers of Keras and of ours."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from optimizer_contract import (
    arrays,
    assert_same,
    check_mixed_precision,
    check_optimizer,
    trajectory,
)

from bert4keras3.training.layerwise_learning_rates import LayerwiseLearningRates
from bert4keras3.training.lookahead import Lookahead

pytestmark = pytest.mark.backend
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


@pytest.mark.parametrize("compiled", [False, True])
def test_equals_numpy(compiled):
    ours = trajectory(Lookahead(SGD(0.1), 3, 0.25), compiled=compiled)
    expected = {}
    for path, weight in arrays()["init"].items():
        slow, rows = weight, []
        for step, gradient in enumerate(arrays()["grads"][path], start=1):
            weight = weight - 0.1 * gradient
            if step % 3 == 0:
                weight = slow = slow + 0.25 * (weight - slow)
            rows.append(weight)
        expected[path] = np.stack(rows)
    assert_same(ours, expected)


def test_a_full_step_changes_nothing():
    assert_same(trajectory(Lookahead(Adam(0.01), 2, 1.0)), trajectory(Adam(0.01)))


def test_accumulated_batches_are_not_updates():
    weight = keras.Variable(np.ones(2, "float32"), name="w")
    optimizer = Lookahead(SGD(1.0, gradient_accumulation_steps=2), 2, 0.5)
    values = []
    for _ in range(6):
        optimizer.apply([keras.ops.ones(2)], [weight])
        values.append(to_numpy(weight)[0])
    np.testing.assert_allclose(values, [1.0, 0.0, 0.0, 0.0, 0.0, -1.0])


def test_weights_loaded_after_build_are_the_start():
    weight = keras.Variable(np.ones(2, "float32"), name="w")
    optimizer = Lookahead(SGD(1.0), 1, 0.5)
    optimizer.build([weight])
    weight.assign(np.full(2, 5.0, "float32"))
    optimizer.apply([keras.ops.ones(2)], [weight])
    np.testing.assert_allclose(to_numpy(weight), 4.5)


def test_trains_saves_and_goes_on(tmp_path):
    check_optimizer(
        lambda: Lookahead(LayerwiseLearningRates(Adam(0.05), {"emb": 0.5}), 4), tmp_path
    )


def test_mixed_precision():
    check_mixed_precision(lambda: Lookahead(Adam(0.01), 2))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"steps_per_slow_update": 0}, "must be a whole number"),
        ({"steps_per_slow_update": 1.5}, "must be a whole number"),
        ({"slow_step_size": 0.0}, "must be above 0 and at most 1"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        Lookahead("sgd", **arguments)
