"""The schedule of straight lines."""

import golden_layers
import keras
import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.training.piecewise_linear import PiecewiseLinear

pytestmark = pytest.mark.backend


def test_golden_schedules():
    spec = golden_layers.index()["fn_piecewise_linear"]
    stored = golden_layers.arrays("fn_piecewise_linear")
    assert len(spec["schedules"]) == len(spec["from_zero"]) > 0
    for i, (points, from_zero) in enumerate(
        zip(spec["schedules"], spec["from_zero"], strict=True)
    ):
        points = {int(step): factor for step, factor in points}
        if not from_zero:
            # The original's from_zero=False: flat up to the first point.
            points.setdefault(0, points[min(points)])
        given = to_numpy(PiecewiseLinear(1.0, points)(stored["t"]))
        np.testing.assert_allclose(given, stored[f"y{i}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (50, 0.5), (100, 1.0), (200, 0.75), (300, 0.5), (10_000, 0.5)],
)
def test_lines(step, expected):
    schedule = PiecewiseLinear(2.0, {100: 1.0, 300: 0.5})
    assert float(schedule(step)) == pytest.approx(2.0 * expected)


def test_a_point_at_zero_replaces_the_warm_up():
    schedule = PiecewiseLinear(1.0, {0: 1.0, 10: 0.0})
    assert float(schedule(0)) == 1.0
    assert float(schedule(5)) == pytest.approx(0.5)


def test_config_round_trip_through_json():
    schedule = PiecewiseLinear(1e-3, {100: 1.0, 300: 0.5})
    optimizer = keras.optimizers.AdamW(schedule)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again._learning_rate.points == {100: 1.0, 300: 0.5}
    assert float(again._learning_rate(200)) == pytest.approx(float(schedule(200)))


@pytest.mark.parametrize("points", [{}, {-1: 1.0}])
def test_wrong_points(points):
    with pytest.raises(ValueError, match="maps steps from 0 upwards"):
        PiecewiseLinear(1.0, points)


def test_a_compiled_optimizer_follows_it():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    compiled = keras.backend.backend() != "torch"
    optimizer = keras.optimizers.SGD(PiecewiseLinear(1.0, {10: 1.0}))
    model.compile(optimizer, "mse", jit_compile=compiled)
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    kernel = model.trainable_variables[0]
    start = to_numpy(kernel)
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(to_numpy(kernel), start)
    model.train_on_batch(x, y)
    assert not np.array_equal(to_numpy(kernel), start)
