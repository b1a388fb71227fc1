"""What optimizers that go round another optimizer have in common."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["OptimizerWrapper"]


class OptimizerWrapper(keras.optimizers.Optimizer):
    """An optimizer that lets another one make an update and then changes it.

    A subclass overrides `before_update` and `after_update`. Rate, clipping, decay and
    accumulation belong to the inner optimizer. The moving average of the weights
    belongs to the outermost wrapper, since it has to see what that made of them.
    Wrappers can be nested; `keras.optimizers.LossScaleOptimizer` goes round all.

    Args:
        optimizer: Keras optimizer, or its name or config.
        use_ema, ema_momentum, ema_overwrite_frequency: as Keras's optimizers have them.
        name: string.

    Raises:
        ValueError: the inner optimizer scales losses or averages weights itself.
    """

    def __init__(
        self,
        optimizer: Any,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str | None = None,
    ):
        optimizer = keras.optimizers.get(optimizer)
        ours = type(self).__name__
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                f"LossScaleOptimizer must be the outermost optimizer. Received it "
                f"inside {ours}; write LossScaleOptimizer({ours}(...))."
            )
        if any(each.use_ema for each in getattr(optimizer, "optimizers", [optimizer])):
            raise ValueError(
                f"The moving average must be taken after {ours} changed the weights. "
                f"Received an inner optimizer with use_ema=True; give `use_ema` to "
                f"{ours} instead."
            )
        super().__init__(
            learning_rate=0.0,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            name=name,
        )
        # Not `inner_optimizer`: by that name `SwapEMAWeights` would look inside.
        self.optimizer = optimizer

    def before_update(self, variables: list[Any]) -> Any:
        """Called ahead of the inner optimizer's update; what it returns is handed on.

        Nothing of it is kept in an attribute: Keras would count variables in there as
        the optimizer's own.
        """

    def after_update(self, variables: list[Any], kept: Any) -> None:
        """Called after the inner optimizer's update, with what the other returned."""

    def build(self, variables: Any) -> None:
        if self.built:
            return
        if not self.optimizer.built:
            self.optimizer.build(variables)
        super().build(variables)

    @property
    def variables(self) -> list[Any]:
        return self._variables + self.optimizer.variables

    @property
    def iterations(self) -> Any:
        return self.optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.optimizer.learning_rate = learning_rate

    @property
    def loss_scale_factor(self) -> Any:
        return self.optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: Any) -> None:
        # Keras's constructor sets it before there is an inner optimizer.
        if hasattr(self, "optimizer"):
            self.optimizer.loss_scale_factor = factor

    def scale_loss(self, loss: Any) -> Any:
        return self.optimizer.scale_loss(loss)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                with keras.name_scope(self.name):
                    self.build(trainable_variables)
        elif not self.built:
            raise ValueError(
                "Gradients without variables need an optimizer that was built. Call "
                "`optimizer.build(variables)` first, or pass `trainable_variables`."
            )
        variables = [
            variable
            for variable in trainable_variables or self._trainable_variables
            if not getattr(variable, "overwrite_with_gradient", False)
        ]
        kept = self.before_update(variables)
        self.optimizer.apply(grads, trainable_variables)
        self.after_update(variables, kept)
        for variable in variables:
            if getattr(variable, "constraint", None) is not None:
                variable.assign(variable.constraint(variable))
        if self.use_ema:
            self._average()
        self._iterations.assign_add(1)

    def _average(self) -> None:
        """`average = momentum * average + (1 - momentum) * w`, at first just `w`."""
        later = ops.cast(self._iterations > 0, "float32")
        for variable, average in zip(
            self._trainable_variables, self._model_variables_moving_average, strict=True
        ):
            if average is None:
                continue
            momentum = ops.cast(later * self.ema_momentum, variable.dtype)
            average.assign(momentum * average + (1.0 - momentum) * variable)
            if self.ema_overwrite_frequency:
                due = (self._iterations + 1) % self.ema_overwrite_frequency == 0
                average = ops.convert_to_tensor(average)
                plain = ops.convert_to_tensor(variable)
                variable.assign(ops.where(due, average, plain))

    def set_weights(self, weights: Any) -> None:
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def finalize_variable_values(self, var_list: Any) -> None:
        self.optimizer.finalize_variable_values(var_list)
        super().finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        return {
            "optimizer": keras.optimizers.serialize(self.optimizer),
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> OptimizerWrapper:
        inner = keras.optimizers.deserialize(config["optimizer"], custom_objects)
        return cls(**{**config, "optimizer": inner})
