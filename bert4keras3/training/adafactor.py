"""AdaFactor with the options of bert4keras, which Keras's Adafactor lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from bert4keras3.training.optimizer_parts import (
    check_patterns,
    dense_gradient,
    path_matches,
)

__all__ = ["AdaFactor", "RelativeStep"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class RelativeStep(keras.optimizers.schedules.LearningRateSchedule):
    """AdaFactor's own schedule: `scale * min(0.01, 1 / sqrt(t))`, `t` from 1.

    Source: https://arxiv.org/abs/1804.04235.

    Args:
        scale: float, what the schedule is multiplied by.

    Example:

    >>> float(RelativeStep()(0)), float(RelativeStep()(39_999))
    (0.00999..., 0.00499...)
    """

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def __call__(self, step: Any) -> Any:
        count = ops.cast(step, "float32") + 1.0
        return self.scale * ops.minimum(ops.rsqrt(count), 0.01)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale}


@keras.saving.register_keras_serializable(package="bert4keras3")
class AdaFactor(keras.optimizers.Optimizer):
    """Adaptive rates from row and column means of the squared gradient.

    With gradient `g`, weights `w` and `t` from 1:

        v = b2 * v + (1 - b2) * (g ** 2 + epsilon_1),  b2 = 1 - t ** -0.8
        u = g / sqrt(v)
        u = u / max(1, rms(u) / clip_threshold)
        m = beta_1 * m + (1 - beta_1) * u
        w = w - learning_rate * max(rms(w), epsilon_2) * m

    Of a variable with two or more axes only the means of `v` over each of its two
    largest axes are kept, `r` and `c`, and `v = r * c / mean(r)`. Against
    `keras.optimizers.Adafactor`: that takes the last two axes and stores `v` in full
    beside them, its rate never exceeds `1 / sqrt(t)`, and it has no momentum.

    Source: https://arxiv.org/abs/1804.04235, with the options of bert4keras 0.11.5.

    Args:
        learning_rate: float, schedule or `None`. `None` is
            `min(0.01, 1 / sqrt(t))`, times 0.05 without parameter scale.
        beta_1: float, momentum; 0 keeps none and needs no memory for it.
        beta_2: float, or `None` for `1 - t ** -0.8`.
        epsilon_1: float, added to the squared gradient.
        epsilon_2: float, the least parameter scale.
        multiply_by_parameter_scale: whether steps are relative to `rms(w)`.
        clip_threshold: float, the largest `rms(u)`; `None` for no limit.
        min_dim_size_to_factor: int; `v` is kept in full where the second largest axis
            is shorter. CLUE was fine-tuned with 1e6: never factored.
        exclude_from_parameter_scale: patterns, searched in the paths of variables
            whose steps are not relative to `rms(w)`.
        **kwargs: of `keras.optimizers.Optimizer`: `weight_decay`, `clipnorm`,
            `use_ema`, `gradient_accumulation_steps` and so on.

    Raises:
        ValueError: `beta_1` or `beta_2` outside 0 to 1, or patterns that are no list
            of regular expressions.

    Example:

    >>> optimizer = AdaFactor(5e-4, beta_1=0.9)
    >>> weight = keras.Variable(np.ones(3, "float32"))
    >>> optimizer.apply([np.ones(3, "float32")], [weight])
    >>> round(float(weight[0]), 5)
    0.99995
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.0,
        beta_2: float | None = None,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        multiply_by_parameter_scale: bool = True,
        clip_threshold: float | None = 1.0,
        min_dim_size_to_factor: int = 128,
        exclude_from_parameter_scale: Iterable[str] | None = None,
        **kwargs: Any,
    ):
        own_rate = learning_rate is None
        if own_rate:
            learning_rate = RelativeStep(1.0 if multiply_by_parameter_scale else 0.05)
        for name, value in {"beta_1": beta_1, "beta_2": beta_2}.items():
            if value is not None and not 0.0 <= value < 1.0:
                raise ValueError(
                    f"`{name}` is the weight of the past, at least 0 and less than 1. "
                    f"Received {value}."
                )
        patterns = check_patterns(
            exclude_from_parameter_scale, "exclude_from_parameter_scale"
        )
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._own_rate = own_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.multiply_by_parameter_scale = multiply_by_parameter_scale
        self.clip_threshold = clip_threshold
        self.min_dim_size_to_factor = min_dim_size_to_factor
        self.exclude_from_parameter_scale = patterns

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self._scaled, self._slots = [], []
        for variable in variables:
            excluded = path_matches(variable.path, self.exclude_from_parameter_scale)
            self._scaled.append(self.multiply_by_parameter_scale and not excluded)
            slots = {}
            axes = self._factored_axes(variable.shape)
            if axes is None:
                slots["v"] = self.add_variable_from_reference(variable, "velocity")
            else:
                for name, axis in zip(("row", "column"), axes, strict=True):
                    shape = list(variable.shape)
                    shape[axis] = 1
                    slots[name] = self.add_variable(
                        shape,
                        dtype=variable.dtype,
                        name=f"{variable.path.replace('/', '_')}_{name}",
                    )
            if self.beta_1 > 0:
                slots["m"] = self.add_variable_from_reference(variable, "momentum")
            self._slots.append(slots)

    def _factored_axes(self, shape: Any) -> tuple[int, int] | None:
        """The largest axis and the second largest, or `None` to keep `v` in full."""
        if len(shape) < 2:
            return None
        *_, second, first = sorted(range(len(shape)), key=lambda axis: shape[axis])
        return None if shape[second] < self.min_dim_size_to_factor else (first, second)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        slots, dtype = self._slots[index], variable.dtype
        gradient = dense_gradient(gradient, variable)
        step = ops.cast(self.iterations + 1, dtype)
        beta_2 = 1.0 - step**-0.8 if self.beta_2 is None else self.beta_2
        squares = ops.square(gradient) + self.epsilon_1
        axes = self._factored_axes(variable.shape)
        if axes is None:
            self.assign(slots["v"], beta_2 * slots["v"] + (1.0 - beta_2) * squares)
            velocity = ops.convert_to_tensor(slots["v"])
        else:
            for name, axis in zip(("row", "column"), axes, strict=True):
                mean = ops.mean(squares, axis=axis, keepdims=True)
                self.assign(slots[name], beta_2 * slots[name] + (1.0 - beta_2) * mean)
            row = ops.convert_to_tensor(slots["row"])
            # Divided first: the product of two squares may leave the range of float32.
            row = row / ops.mean(row, axis=axes[1], keepdims=True)
            velocity = row * slots["column"]
        update = gradient * ops.rsqrt(velocity + self.epsilon_1)
        if self.clip_threshold is not None:
            update = update / ops.maximum(1.0, _rms(update) / self.clip_threshold)
        if self.beta_1 > 0:
            momentum = slots["m"]
            self.assign(momentum, self.beta_1 * momentum + (1 - self.beta_1) * update)
            update = ops.convert_to_tensor(momentum)
        if self._scaled[index]:
            update = update * ops.maximum(_rms(variable), self.epsilon_2)
        self.assign_sub(variable, update * ops.cast(learning_rate, dtype))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self._own_rate:
            config["learning_rate"] = None
        return {
            **config,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "multiply_by_parameter_scale": self.multiply_by_parameter_scale,
            "clip_threshold": self.clip_threshold,
            "min_dim_size_to_factor": self.min_dim_size_to_factor,
            "exclude_from_parameter_scale": list(self.exclude_from_parameter_scale),
        }


def _rms(x: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(x)))
