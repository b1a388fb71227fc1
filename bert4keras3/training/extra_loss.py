"""Terms that training adds to a model's loss, such as adversarial ones.

A term may run the model again: with other values of some weights, with dropout drawn
anew. `ExtraLosses` gives any Keras model the argument `compile(extra_losses=[...])`;
`ExtraLoss` is the base of the terms.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import ops

from bert4keras3.training.gradients import value_and_gradients

__all__ = ["TOKEN_EMBEDDINGS", "ExtraLoss", "ExtraLosses", "TrainingStep"]

TOKEN_EMBEDDINGS = "*token_embedding/embeddings"


class ExtraLosses:
    """Gives a Keras model the argument `compile(extra_losses=[...])`.

    `loss = ordinary_loss + sum_i extra_losses[i](step)` while training; `evaluate` and
    `predict` leave the terms out. The logged loss of training holds them. Every `Task`
    has this base. Name it before `keras.Model`, or before the class whose loss is to be
    extended. A class of yours with a loss of its own overrides `ordinary_loss`, which
    the terms compute again, and not `compute_loss`.

    Example:

    >>> from bert4keras3.training.adversarial import FGM
    >>> class Classifier(ExtraLosses, keras.Sequential):
    ...     pass
    >>> table = keras.layers.Embedding(9, 4, name="token_embedding")
    >>> pooling = keras.layers.GlobalAveragePooling1D()
    >>> model = Classifier([table, pooling, keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("adam", loss, extra_losses=[FGM(epsilon=0.5)])
    >>> x, y = np.array([[1, 2], [3, 4]]), np.array([0, 1])
    >>> bool(model.train_on_batch(x, y) > model.evaluate(x, y, verbose=0))
    True
    """

    extra_losses: tuple[ExtraLoss, ...] = ()

    def compile(
        self, *args: Any, extra_losses: Iterable[ExtraLoss] = (), **kwargs: Any
    ) -> None:
        """`keras.Model.compile` which also takes terms of the training loss.

        Args:
            *args, **kwargs: see `keras.Model.compile`.
            extra_losses: list of `ExtraLoss`.

        Raises:
            ValueError: something else than a list of `ExtraLoss`, or a model whose own
                `compute_loss` would hide the terms.
        """
        terms = _checked(extra_losses)
        if terms and type(self).compute_loss is not ExtraLosses.compute_loss:
            raise ValueError(
                f"{type(self).__name__} overrides `compute_loss`, which would hide "
                "`extra_losses`. Override `ordinary_loss` instead; it has the same "
                "arguments."
            )
        super().compile(*args, **kwargs)  # type: ignore[misc]
        self.extra_losses = terms

    def ordinary_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss without the terms, by default `keras.Model.compute_loss`."""
        return super().compute_loss(  # type: ignore[misc]
            x, y, y_pred, sample_weight, training
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss, with the terms if `training`."""
        loss = self.ordinary_loss(x, y, y_pred, sample_weight, training)
        if not training or not self.extra_losses:
            return loss
        step = TrainingStep(self, x, y, y_pred, sample_weight, loss)
        total = loss
        for term in self.extra_losses:
            total = total + ops.cast(term(step), loss.dtype)
        step.keep_random_state()
        return total

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()  # type: ignore[misc]
        if config and self.extra_losses:
            terms = [keras.saving.serialize_keras_object(t) for t in self.extra_losses]
            config = {**config, "extra_losses": terms}
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # Keras's own gives up on a class that overrides `compile`.
        self.compile(**keras.saving.deserialize_keras_object(config))
        model: Any = self
        if model.optimizer is not None and model.built:
            model.optimizer.build(model.trainable_variables)


def _checked(extra_losses: Any) -> tuple[ExtraLoss, ...]:
    terms = extra_losses if isinstance(extra_losses, list | tuple) else [extra_losses]
    wrong = [term for term in terms if not isinstance(term, ExtraLoss)]
    if wrong or terms is not extra_losses:
        raise ValueError(
            "`extra_losses` takes a list of ExtraLoss instances, for example [FGM()]. "
            f"Received {extra_losses!r}."
        )
    return tuple(terms)


class ExtraLoss:
    """Base of the terms: a scalar that is added to the loss of a training step.

    A subclass has `__call__`. It is traced once with the step of training and must not
    keep tensors. `get_config` returns the arguments of the constructor.

    Call arguments:
        step: a `TrainingStep`.

    Returns:
        scalar tensor.

    Example:

    >>> class Confidence(ExtraLoss):
    ...     def __call__(self, step):
    ...         return -0.01 * keras.ops.mean(keras.ops.square(step.y_pred))
    """

    def __call__(self, step: TrainingStep) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} lacks `__call__(self, step)`, which returns a "
            "scalar."
        )

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ExtraLoss:
        return cls(**config)


class TrainingStep:
    """What a term sees of a training step, and how it runs the model again.

    Attributes:
        model: the model.
        x, y, sample_weight: the batch, as the model takes it.
        y_pred: what the model predicted, with dropout.
        loss: scalar, the ordinary loss.
    """

    def __init__(
        self, model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any, loss: Any
    ):
        self.model = model
        self.x = x
        self.y = y
        self.y_pred = y_pred
        self.sample_weight = sample_weight
        self.loss = loss
        weights = {id(variable) for variable in model.weights}
        # What is a variable and no weight is the state of a random generator.
        self._generators = [v for v in model.variables if id(v) not in weights]
        self._random_state = [ops.convert_to_tensor(v.value) for v in self._generators]
        self._constant_weights = False

    def variable(self, pattern: str) -> Any:
        """The weight whose path matches a pattern of `fnmatch`.

        Raises:
            ValueError: no weight matches, or several do.
        """
        weights = self.model.weights
        found = [v for v in weights if fnmatch.fnmatchcase(v.path, pattern)]
        if len(found) != 1:
            paths = ", ".join(sorted(v.path for v in found or weights))
            wrong = "Several weights match" if found else "No weight matches"
            raise ValueError(
                f"{wrong} variable={pattern!r}. Give a pattern that matches the path "
                f"of one weight. {'Found' if found else 'There are'}: {paths}."
            )
        return found[0]

    def forward(
        self,
        replaced: Iterable[tuple[Any, Any]] = (),
        training: bool = True,
        constant: bool = False,
    ) -> tuple[Any, Any]:
        """Loss and predictions of the same batch, from a pass with fresh dropout.

        Nothing that the pass updates is kept, but for the state of the random
        generators.

        Args:
            replaced: pairs of a variable and the value which it has in this pass.
            training: whether dropout acts.
            constant: whether the weights, but for the replaced ones, are constants to
                the gradient of training.

        Returns:
            The ordinary loss, a scalar, and the predictions.
        """
        model = self.model
        values = {
            id(v): (v, v.value) for v in (*model.variables, *model.metrics_variables)
        }
        if constant or self._constant_weights:
            for v in model.trainable_variables:
                values[id(v)] = (v, ops.stop_gradient(v.value))
        for v, value in zip(self._generators, self._random_state, strict=True):
            values[id(v)] = (v, value)
        values.update({id(v): (v, value) for v, value in replaced})
        # A model without the argument is called without it, as Keras does.
        arguments = {"training": training} if model._call_has_training_arg else {}
        scope = keras.StatelessScope(list(values.values()), collect_losses=True)
        with scope, _own_losses(model):
            y_pred = model(self.x, **arguments)
            loss = model.ordinary_loss(
                self.x, self.y, y_pred, self.sample_weight, training
            )
        self._random_state = [scope.get_current_value(v) for v in self._generators]
        return loss, y_pred

    def gradient(
        self, function: Callable[[Any], Any], tensor: Any, second_order: bool = False
    ) -> Any:
        """Gradient of a scalar function, which may call `forward`.

        Args:
            function: takes a tensor and returns a scalar.
            tensor: where the gradient is taken, of any float dtype.
            second_order: whether the gradient depends on the weights, so that training
                differentiates it again. Otherwise it is a constant.

        Returns:
            float32 tensor of the shape of `tensor`, zeros where it has no influence.
        """

        def scalar(tensors: list[Any]) -> tuple[Any, Any]:
            value = ops.cast(function(tensors[0]), "float32")
            return value, self._random_state

        before = self._constant_weights
        # Constant weights keep the outer gradient from tracing this pass too.
        self._constant_weights = before or not second_order
        if not second_order:
            tensor = ops.stop_gradient(tensor)
        try:
            _, self._random_state, (gradient,) = value_and_gradients(
                scalar, [tensor], second_order
            )
        finally:
            self._constant_weights = before
        gradient = ops.cast(gradient, "float32")
        return gradient if second_order else ops.stop_gradient(gradient)

    def keep_random_state(self) -> None:
        """Let the next step draw other dropout than the passes of this one."""
        for v, value in zip(self._generators, self._random_state, strict=True):
            v.assign(value)


@contextlib.contextmanager
def _own_losses(model: Any) -> Iterator[None]:
    """Let a pass collect its own `add_loss` and regularization losses.

    Keras's JAX trainer holds those of the first pass ready for `compute_loss`.
    """
    held, model._losses_override = model._losses_override, []
    try:
        yield
    finally:
        model._losses_override = held
