"""A learning-rate schedule of straight lines between given steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

__all__ = ["PiecewiseLinear"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Go in straight lines from point to point, and stay at the last.

    `points={1000: 1.0, 5000: 0.1}` warms up from 0 over 1000 steps and then falls to a
    tenth at step 5000, as the schedules of GAU-α and RoFormerV2 are written
    (https://github.com/ZhuiyiTechnology/GAU-alpha). A point at step 0 replaces the
    warm-up from 0.

    Args:
        learning_rate: float, what the factors multiply.
        points: step to factor. Keys may be strings of integers, as JSON has them.

    Raises:
        ValueError: if there is no point or a step is negative.

    Example:

    >>> float(PiecewiseLinear(1e-3, {10: 1.0})(5))
    0.0005...
    """

    def __init__(self, learning_rate: float, points: Mapping[int, float]):
        super().__init__()
        self.learning_rate = float(learning_rate)
        self.points = {int(step): float(points[step]) for step in points}
        if not self.points or min(self.points) < 0:
            raise ValueError(
                f"points maps steps from 0 upwards to factors, for example "
                f"{{1000: 1.0, 5000: 0.1}}; got {dict(points)}."
            )

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        points = sorted({0: 0.0, **self.points}.items())
        factor = ops.ones_like(step) * points[0][1]
        for (left, low), (right, high) in zip(points, points[1:], strict=False):
            part = ops.clip((step - left) / (right - left), 0.0, 1.0)
            factor = ops.where(step >= left, low + (high - low) * part, factor)
        return factor * self.learning_rate

    def get_config(self) -> dict[str, Any]:
        points = {str(step): factor for step, factor in self.points.items()}
        return {"learning_rate": self.learning_rate, "points": points}
