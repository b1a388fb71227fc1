"""Lookahead: slow weights that follow those of any optimizer."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4keras3.training.optimizer_wrapper import OptimizerWrapper

__all__ = ["Lookahead"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class Lookahead(OptimizerWrapper):
    """Goes back part of the way after every `k` updates of another optimizer.

    With the inner optimizer's weights `w` and slow weights `s`, which start as the
    weights before the first update; after updates `k, 2k, 3k ...`:

        s = s + alpha * (w - s)
        w = s

    Updates are counted, not batches, when the inner optimizer accumulates gradients.
    bert4keras started `s` at 0, so its first step multiplied the weights by `alpha`;
    that is not repeated here.

    Source: https://arxiv.org/abs/1907.08610.

    Args:
        optimizer: Keras optimizer, or its name or config.
        steps_per_slow_update: int, `k`.
        slow_step_size: float above 0 and at most 1, `alpha`.
        **kwargs: of `OptimizerWrapper`.

    Raises:
        ValueError: `k` below 1, or `alpha` out of range.

    Example:

    >>> weight = keras.Variable(np.ones(2, "float32"))
    >>> optimizer = Lookahead(keras.optimizers.SGD(1.0), steps_per_slow_update=1)
    >>> optimizer.apply([keras.ops.ones(2)], [weight])
    >>> float(weight[0])
    0.5
    """

    def __init__(
        self,
        optimizer: Any,
        steps_per_slow_update: int = 5,
        slow_step_size: float = 0.5,
        **kwargs: Any,
    ):
        if steps_per_slow_update < 1 or int(steps_per_slow_update) != (
            steps_per_slow_update
        ):
            raise ValueError(
                f"`steps_per_slow_update` must be a whole number of at least 1. "
                f"Received {steps_per_slow_update}."
            )
        if not 0.0 < slow_step_size <= 1.0:
            raise ValueError(
                f"`slow_step_size` must be above 0 and at most 1. Received "
                f"{slow_step_size}."
            )
        super().__init__(optimizer, **kwargs)
        self.steps_per_slow_update = int(steps_per_slow_update)
        self.slow_step_size = slow_step_size

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self._slow = self.add_optimizer_variables(variables, "slow")

    def before_update(self, variables: list[Any]) -> Any:
        # At the first update rather than on `build`: weights may be loaded in between.
        first = ops.equal(self._iterations, 0)
        for variable in variables:
            slow = self._slow[self._get_variable_index(variable)]
            weight, before = map(ops.convert_to_tensor, (variable, slow))
            slow.assign(ops.where(first, weight, before))
        return ops.copy(ops.convert_to_tensor(self.iterations))

    def after_update(self, variables: list[Any], kept: Any) -> None:
        count = ops.convert_to_tensor(self.iterations)
        due = ops.logical_and(
            ops.not_equal(count, kept), ops.equal(count % self.steps_per_slow_update, 0)
        )
        for variable in variables:
            slow = self._slow[self._get_variable_index(variable)]
            weight, before = map(ops.convert_to_tensor, (variable, slow))
            moved = before + self.slow_step_size * (weight - before)
            slow.assign(ops.where(due, moved, before))
            variable.assign(ops.where(due, moved, weight))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "steps_per_slow_update": self.steps_per_slow_update,
            "slow_step_size": self.slow_step_size,
        }
