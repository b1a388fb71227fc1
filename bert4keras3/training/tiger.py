"""Tiger: the sign of the momentum, with steps relative to the weights."""

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

__all__ = ["Tiger"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class Tiger(keras.optimizers.Optimizer):
    """A step of the same size for every weight of a variable, in its sign's direction.

    With gradient `g` and weights `w`:

        m = beta * m + (1 - beta) * g
        w = w - learning_rate * a * (sign(m) + weight_decay * w)

    `a = rms(w)` for kernels; `a = rms(w_i)` for each row `w_i` of embeddings; biases,
    scales and offsets have `a = 1/2` and no decay. Only `m` is kept.

    A gradient with a value that is not finite leaves `m` as it is and shrinks the
    weights instead, `w = c + shrink_ratio * (w - c)` with `c = 1` for scales and 0
    otherwise, which leads a network out of the region where it overflows. The original
    does so for NaN only; an infinite gradient would stay in `m` for good.

    `momentum_accumulation_steps=k` accumulates gradients in `m` itself: `m` decays once
    in `k` batches, each batch adds `(1 - beta) / k * g`, and the weights change at the
    last. This needs no memory, unlike `gradient_accumulation_steps` of Keras.

    Sources: https://kexue.fm/archives/9512, https://github.com/bojone/tiger.

    Args:
        learning_rate: float or schedule.
        beta: float, weight of the past.
        weight_decay: float; `None` for none.
        shrink_ratio: float.
        momentum_accumulation_steps: int, `k`.
        fixed_rate: patterns, searched in the paths of variables with `a = 1/2`.
        around_one: patterns of those that shrink to 1.
        by_row: patterns of those with a rate for each row.
        **kwargs: of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: `k` below 1, or beside `gradient_accumulation_steps`, or patterns
            that are no list of regular expressions.

    Example:

    >>> weight = keras.Variable(np.full((2, 2), 2.0, "float32"), name="kernel")
    >>> optimizer = Tiger(0.1, weight_decay=0.0)
    >>> optimizer.apply([keras.ops.ones((2, 2))], [weight])
    >>> round(float(weight[0, 0]), 3)  # 2 - 0.1 * rms * sign
    1.8
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta: float = 0.965,
        weight_decay: float | None = 0.01,
        shrink_ratio: float = 0.99,
        momentum_accumulation_steps: int = 1,
        fixed_rate: Iterable[str] = ("(bias|beta|gamma|scale|offset)$",),
        around_one: Iterable[str] = ("(gamma|scale)$",),
        by_row: Iterable[str] = ("embeddings$",),
        **kwargs: Any,
    ):
        steps = momentum_accumulation_steps
        if steps < 1 or (steps > 1 and kwargs.get("gradient_accumulation_steps")):
            raise ValueError(
                f"`momentum_accumulation_steps` must be at least 1, and 1 beside "
                f"`gradient_accumulation_steps`. Received {steps}."
            )
        patterns = {
            name: check_patterns(given, name)
            for name, given in {
                "fixed_rate": fixed_rate,
                "around_one": around_one,
                "by_row": by_row,
            }.items()
        }
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, **kwargs
        )
        self.beta = beta
        self.shrink_ratio = shrink_ratio
        self.momentum_accumulation_steps = steps
        self.patterns = patterns

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        # `exclude_from_weight_decay` of Keras works too.
        self._decayed = [self._use_weight_decay(variable) for variable in variables]
        self._kinds = [
            [
                name
                for name in self.patterns
                if path_matches(v.path, self.patterns[name])
            ]
            for v in variables
        ]

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: the decay is part of the step, see `update_step`."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index, dtype = self._get_variable_index(variable), variable.dtype
        kinds, momentum = self._kinds[index], self._momentums[index]
        gradient = dense_gradient(gradient, variable)
        finite = ops.all(ops.isfinite(gradient))
        steps = self.momentum_accumulation_steps
        first = ops.equal(self._iterations % steps, 0)
        last = ops.equal((self._iterations + 1) % steps, 0)
        past = ops.where(
            ops.logical_and(finite, first), ops.cast(self.beta, dtype), 1.0
        )
        new = ops.where(finite, gradient, ops.zeros_like(gradient))
        self.assign(momentum, past * momentum + (1.0 - self.beta) / steps * new)
        weight = ops.convert_to_tensor(variable)
        step = ops.sign(ops.convert_to_tensor(momentum))
        rate = ops.cast(learning_rate, dtype)
        if "fixed_rate" in kinds:
            rate = rate * 0.5
        else:
            axis = -1 if "by_row" in kinds else None
            squares = ops.mean(ops.square(weight), axis=axis, keepdims=True)
            rate = rate * ops.sqrt(squares)
            if self.weight_decay and self._decayed[index]:
                step = step + self.weight_decay * weight
        rate = ops.where(last, rate, ops.zeros_like(rate))
        centre = 1.0 if "around_one" in kinds else 0.0
        shrunk = (weight - centre) * self.shrink_ratio + centre
        self.assign(variable, ops.where(finite, weight - rate * step, shrunk))

    def get_config(self) -> dict[str, Any]:
        patterns = {name: list(given) for name, given in self.patterns.items()}
        return {
            **super().get_config(),
            "beta": self.beta,
            "shrink_ratio": self.shrink_ratio,
            "momentum_accumulation_steps": self.momentum_accumulation_steps,
            **patterns,
        }
