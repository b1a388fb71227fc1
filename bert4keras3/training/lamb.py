"""LAMB as RoFormerV2 and GAU-α were trained with; Keras's cannot be set to it."""

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

__all__ = ["LAMB"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class LAMB(keras.optimizers.Optimizer):
    """Adam whose step has, per variable, a length in proportion to the weights.

    With gradient `g`, weights `w` and `t` from 1:

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g ** 2
        u = m / (sqrt(v) + epsilon) + weight_decay * w
        w = w - learning_rate * |w| / |u| * u

    With `bias_correction`, `m` is divided by `1 - beta_1 ** t` and `v` by
    `1 - beta_2 ** t`. The ratio of norms is 1 where one of them is 0. Against
    `keras.optimizers.Lamb`: that always corrects the bias, subtracts the decay before
    the step instead of inside the norm, and adapts every variable.

    GAU-α was trained by `LAMB(PiecewiseLinear(1.76e-3, {0: 1, 160_000: 0.5, ...}),
    gradient_accumulation_steps=4)`. Accumulation is Keras's: the mean of four
    gradients is applied at the fourth. That of bert4keras applied it at the fifth,
    at the rate of the fifth, and an update with a gradient of 0 at the very first, in
    which the decay alone shrank the weights by `learning_rate * w`; that first update
    is left out here.

    Source: https://arxiv.org/abs/1904.00962, with the options of bert4keras 0.11.5.

    Args:
        learning_rate: float or schedule.
        beta_1, beta_2: floats, weights of the past in `m` and `v`.
        epsilon: float, added to `sqrt(v)`.
        weight_decay: float, inside the norm; `None` for none.
        bias_correction: whether `m` and `v` are corrected for starting at 0.
        exclude_from_weight_decay: patterns, searched in the paths of variables without
            decay, such as `["bias", "norm"]`.
        exclude_from_layer_adaptation: patterns, searched in the paths of variables
            whose ratio of norms is 1. `[""]` excludes all: Adam with decoupled decay.
        **kwargs: of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: patterns that are no list of regular expressions.

    Example:

    >>> optimizer = LAMB(0.1, weight_decay=0.0)
    >>> weight = keras.Variable(np.full(4, 2.0, "float32"))
    >>> optimizer.apply([np.ones(4, "float32")], [weight])
    >>> round(float(weight[0]), 3)  # 2 - 0.1 * |w| / |u| * u
    1.8
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float | None = 0.01,
        bias_correction: bool = False,
        exclude_from_weight_decay: Iterable[str] | None = None,
        exclude_from_layer_adaptation: Iterable[str] | None = None,
        **kwargs: Any,
    ):
        no_decay = check_patterns(
            exclude_from_weight_decay, "exclude_from_weight_decay"
        )
        no_adaptation = check_patterns(
            exclude_from_layer_adaptation, "exclude_from_layer_adaptation"
        )
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, **kwargs
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.bias_correction = bias_correction
        # `exclude_from_weight_decay` is a method of Keras's, which works too.
        self._no_decay = no_decay
        self.exclude_from_layer_adaptation = no_adaptation

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        self._decayed, self._adapted = [], []
        for variable in variables:
            excluded = path_matches(variable.path, self._no_decay)
            self._decayed.append(self._use_weight_decay(variable) and not excluded)
            excluded = path_matches(variable.path, self.exclude_from_layer_adaptation)
            self._adapted.append(not excluded)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: the decay is part of the step, see `update_step`."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index, dtype = self._get_variable_index(variable), variable.dtype
        gradient = dense_gradient(gradient, variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign(m, self.beta_1 * m + (1.0 - self.beta_1) * gradient)
        self.assign(v, self.beta_2 * v + (1.0 - self.beta_2) * ops.square(gradient))
        first, second = ops.convert_to_tensor(m), ops.convert_to_tensor(v)
        if self.bias_correction:
            step = ops.cast(self.iterations + 1, dtype)
            first = first / (1.0 - ops.power(ops.cast(self.beta_1, dtype), step))
            second = second / (1.0 - ops.power(ops.cast(self.beta_2, dtype), step))
        weight = ops.convert_to_tensor(variable)
        update = first / (ops.sqrt(second) + self.epsilon)
        if self.weight_decay and self._decayed[index]:
            update = update + self.weight_decay * weight
        if self._adapted[index]:
            length, step_length = _norm(weight), _norm(update)
            both = ops.logical_and(length > 0, step_length > 0)
            ratio = length / ops.where(both, step_length, 1.0)
            update = update * ops.where(both, ratio, 1.0)
        self.assign_sub(variable, ops.cast(learning_rate, dtype) * update)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "bias_correction": self.bias_correction,
            "exclude_from_weight_decay": list(self._no_decay),
            "exclude_from_layer_adaptation": list(self.exclude_from_layer_adaptation),
        }


def _norm(x: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(x)))
