"""Rates of their own for some variables: by path, by depth, or frozen for a while."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from bert4keras3.training.optimizer_parts import check_patterns, path_matches
from bert4keras3.training.optimizer_wrapper import OptimizerWrapper

__all__ = ["LayerwiseLearningRates", "frozen_for", "layer_decay"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class LayerwiseLearningRates(OptimizerWrapper):
    """Scales the updates of another optimizer by factors that depend on the path.

        w = w + f(path, t) * (w' - w)

    `w'` is what the inner optimizer made of the weights `w`, decay included, and `t`
    counts batches from 0. For Adam, SGD and all whose step is in proportion to the
    rate this is a rate of `f * learning_rate`. A factor may be a schedule, and one
    that is 0 for a time freezes a layer for that time without a new compilation of the
    training step; unlike `trainable = False` it saves no computation.

    Sources: `extend_with_parameter_wise_lr` of bert4keras 0.11.5; layer-wise decay:
    https://arxiv.org/abs/1801.06146.

    Args:
        optimizer: Keras optimizer, or its name or config.
        factors: maps patterns, which are searched in the paths of variables, to floats
            or schedules. Where several are found, the factors are multiplied; where
            none is, the factor is 1.
        **kwargs: of `OptimizerWrapper`.

    Raises:
        ValueError: no factors, a pattern that is no regular expression, a factor that
            is negative or no number, or, on `build`, a pattern found in no path.

    Example:

    >>> weights = [keras.Variable(np.ones(2, "float32"), name=n) for n in ("a", "b")]
    >>> optimizer = LayerwiseLearningRates(keras.optimizers.SGD(0.5), {"b": 0.1})
    >>> optimizer.apply([keras.ops.ones(2)] * 2, weights)
    >>> [round(float(keras.ops.min(weight)), 6) for weight in weights] == [0.5, 0.95]
    True
    """

    def __init__(self, optimizer: Any, factors: Mapping[str, Any], **kwargs: Any):
        if not factors:
            raise ValueError(
                "`factors` maps patterns of paths to factors, for example "
                f'{{"embedding": 0.1}}. Received {factors!r}.'
            )
        check_patterns(factors, "factors")
        found = {
            pattern: _factor(pattern, value) for pattern, value in dict(factors).items()
        }
        super().__init__(optimizer, **kwargs)
        self.factors = found

    def build(self, variables: Any) -> None:
        if self.built:
            return
        paths = [variable.path for variable in variables]
        for pattern in self.factors:
            if not any(path_matches(path, [pattern]) for path in paths):
                raise ValueError(
                    f"The pattern {pattern!r} of `factors` is found in no path of a "
                    f"variable. Paths: {', '.join(paths)}."
                )
        super().build(variables)

    def before_update(self, variables: list[Any]) -> Any:
        kept = []
        for variable in variables:
            factor = self._factor_of(variable)
            if factor is not None:
                # A copy: PyTorch changes the weights in place.
                weight = ops.stop_gradient(ops.copy(ops.convert_to_tensor(variable)))
                kept.append((variable, factor, weight))
        return kept

    def after_update(self, variables: list[Any], kept: Any) -> None:
        for variable, factor, weight in kept:
            factor = ops.cast(factor, variable.dtype)
            step = ops.convert_to_tensor(variable) - weight
            variable.assign(weight + factor * step)

    def _factor_of(self, variable: Any) -> Any:
        """The product of what applies to a variable now; `None` if nothing does."""
        index = self._get_variable_index(variable)
        path = self._trainable_variables[index].path
        product = None
        for pattern, factor in self.factors.items():
            if path_matches(path, [pattern]):
                if callable(factor):
                    factor = factor(self._iterations)
                product = factor if product is None else product * factor
        return product

    def get_config(self) -> dict[str, Any]:
        factors = {
            pattern: keras.saving.serialize_keras_object(factor)
            for pattern, factor in self.factors.items()
        }
        return {**super().get_config(), "factors": factors}


def _factor(pattern: str, value: Any) -> Any:
    """A factor as a float or a schedule."""
    if isinstance(value, dict):
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    if not isinstance(value, int | float) or not 0.0 <= value < float("inf"):
        raise ValueError(
            f"A factor is a number of at least 0 or a LearningRateSchedule. Received "
            f"{value!r} for the pattern {pattern!r}."
        )
    return float(value)


def frozen_for(num_steps: int) -> keras.optimizers.schedules.PiecewiseConstantDecay:
    """A factor that is 0 for the first steps and 1 from then on.

    Args:
        num_steps: int, batches to be frozen for; epochs times batches per epoch.

    Raises:
        ValueError: `num_steps` below 1.

    Example:

    >>> factor = frozen_for(2)
    >>> float(factor(1)), float(factor(2))
    (0.0, 1.0)
    """
    if num_steps < 1:
        raise ValueError(
            f"`num_steps` must be at least 1, a number of batches. Received "
            f"{num_steps}; leave the pattern out to train from the start."
        )
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [int(num_steps) - 1], [0.0, 1.0]
    )


def layer_decay(
    model: Any, decay: float, blocks: str = "transformer_layer|gau"
) -> dict[str, float]:
    """Factors that fall with the distance from the output, for one of our models.

    Of `L` layers, layer `i` has the factor `decay ** (L - i)`, embeddings have
    `decay ** (L + 1)`, and what is above the layers, such as a head, has 1.

    Source: https://arxiv.org/abs/1801.06146.

    Args:
        model: backbone or task that was built.
        decay: float above 0 and at most 1, for example 0.9.
        blocks: pattern of the layers' names, without `_` and number.

    Returns:
        Dict from patterns to floats, for `LayerwiseLearningRates`.

    Raises:
        ValueError: `decay` out of range, or no layer of such a name.

    Example:

    >>> from bert4keras3.models import GAUAlphaBackbone
    >>> sizes = {"hidden_dim": 8, "intermediate_dim": 16, "key_dim": 4}
    >>> model = GAUAlphaBackbone(vocabulary_size=9, num_layers=2, **sizes)
    >>> factors = layer_decay(model, 0.5)
    >>> min(factors.values()), max(factors.values())
    (0.125, 0.5)
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(
            f"`decay` must be above 0 and at most 1, such as 0.9. Received {decay}."
        )
    paths = [variable.path for variable in model.trainable_variables]
    names = {}
    for path in paths:
        found = re.search(rf"(?:^|/)((?:{blocks})_(\d+))(?:_\w+)?/", path)
        if found:
            names[found[1]] = int(found[2])
    if not names:
        raise ValueError(
            f"No variable belongs to a layer called ({blocks})_0, _1 and so on. Say "
            f"what the layers are called by `blocks`. Paths: {', '.join(paths)}."
        )
    num_layers = max(names.values()) + 1
    factors = {}
    inside = "|".join(map(re.escape, names))
    # Embeddings inside a layer, such as relative positions, belong to the layer.
    outside = rf"^(?!(?:.*/)?(?:{inside})(?:_\w+)?/).*embedding"
    if any(path_matches(path, [outside]) for path in paths):
        factors[outside] = decay ** (num_layers + 1)
    for name, index in sorted(names.items(), key=lambda item: item[1]):
        factors[rf"(^|/){name}(_\w+)?/"] = decay ** (num_layers - index)
    return factors
