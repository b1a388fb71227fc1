"""Terms that train a model against small changes of its token embeddings.

They change the table of embeddings, not the embedded tokens of one row: the change of
a token is the same wherever it stands in the batch. A table that is also the output
matrix of a masked-LM head is changed in both places. The norm of a change is that of
the whole table. Under `mixed_float16` small gradients may vanish, and a term then
changes nothing; `mixed_bfloat16` has no such limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from bert4keras3.naming import check_at_least, whole_number
from bert4keras3.training.divergence import mean_divergence
from bert4keras3.training.extra_loss import (
    TOKEN_EMBEDDINGS,
    ExtraLoss,
    TrainingStep,
)

__all__ = ["FGM", "PGD", "GradientPenalty", "VirtualAdversarial"]


def _unit_and_norm(tensor: Any) -> tuple[Any, Any]:
    """`tensor / |tensor|`, zeros for zeros, and `|tensor|`, of a float32 tensor."""
    # Squares of very small or large entries have no place in float32.
    largest = ops.max(ops.abs(tensor))
    scale = ops.where(largest > 0, largest, 1.0)
    scaled = tensor / scale
    norm = ops.sqrt(ops.sum(ops.square(scaled)))
    return scaled / ops.where(norm > 0, norm, 1.0), scale * norm


def _unit(tensor: Any) -> Any:
    return _unit_and_norm(tensor)[0]


def _loss_of(step: TrainingStep, variable: Any) -> Callable[[Any], Any]:
    """The ordinary loss as a function of the value of a variable."""
    return lambda value: step.forward([(variable, value)])[0]


def _moved(variable: Any, delta: Any) -> Any:
    """`E + delta`; the gradient flows into `E`."""
    table = ops.convert_to_tensor(variable.value)
    return table + ops.cast(delta, table.dtype)


@keras.saving.register_keras_serializable(package="bert4keras3")
class FGM(ExtraLoss):
    """Fast gradient method: the loss again, where one step makes it largest.

    `weight * L(E + delta)` with `delta = epsilon g / |g|` and `g = dL/dE`, a constant;
    `E` is the table, `(vocabulary_size, dim)`, and the norm that of the whole table.
    Norm and `delta` are float32, and a zero gradient gives a zero `delta`.

    A step takes three forward and three backward passes instead of one each.

    Sources: https://arxiv.org/abs/1605.07725, https://kexue.fm/archives/7234. What
    bert4keras trained on was the changed loss alone, and it took `g` without dropout;
    here the ordinary loss stays, as in the paper, and all passes have dropout.

    Args:
        epsilon: norm of the change, by default that of bert4keras.
        weight: factor of the term.
        variable: pattern of the path of the weight that is changed.

    Raises:
        ValueError: a negative `epsilon` or `weight`; no or several weights match.

    Example:

    >>> from bert4keras3.training.extra_loss import ExtraLosses
    >>> class Classifier(ExtraLosses, keras.Sequential):
    ...     pass
    >>> table = keras.layers.Embedding(9, 4, name="token_embedding")
    >>> pooling = keras.layers.GlobalAveragePooling1D()
    >>> model = Classifier([table, pooling, keras.layers.Dense(2, "softmax")])
    >>> loss = "sparse_categorical_crossentropy"
    >>> model.compile("adam", loss, extra_losses=[FGM(epsilon=0.5)])
    >>> history = model.fit(np.array([[1, 2], [3, 4]]), np.array([0, 1]), verbose=0)
    """

    def __init__(
        self,
        epsilon: float = 0.5,
        weight: float = 1.0,
        variable: str = TOKEN_EMBEDDINGS,
    ):
        check_at_least(epsilon, 0, "epsilon", "the norm of the change")
        check_at_least(weight, 0, "weight", "the factor of the term")
        self.epsilon = float(epsilon)
        self.weight = float(weight)
        self.variable = variable

    def __call__(self, step: TrainingStep) -> Any:
        variable = step.variable(self.variable)
        loss = _loss_of(step, variable)
        gradient = step.gradient(loss, variable.value)
        return self.weight * loss(_moved(variable, self.epsilon * _unit(gradient)))

    def get_config(self) -> dict[str, Any]:
        return {
            "epsilon": self.epsilon,
            "weight": self.weight,
            "variable": self.variable,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class PGD(ExtraLoss):
    """Projected gradient descent: the loss again, after several steps upwards.

    `weight * L(E + delta_K)` with `delta_0 = 0` and
    `delta_{k+1} = P(delta_k + step_size g_k / |g_k|)`, `g_k = dL/dE` at `E + delta_k`.
    `P` shrinks what is longer than `epsilon` to that norm. Norms are float32, over the
    whole table `(vocabulary_size, dim)`, and every `delta` is a constant. One step of
    size `s <= epsilon` is `FGM(epsilon=s)`.

    A training step takes `num_steps + 2` forward and as many backward passes. The steps
    are unrolled in the compiled graph.

    Sources: https://arxiv.org/abs/1706.06083, https://kexue.fm/archives/7234.

    Args:
        epsilon: radius of the ball that the change stays in.
        step_size: norm of one step.
        num_steps: number of steps `K`.
        weight: factor of the term.
        variable: pattern of the path of the weight that is changed.

    Raises:
        ValueError: a negative size or weight, `num_steps` below 1; no or several
            weights match.

    Example:

    >>> PGD(epsilon=1.0, step_size=0.3, num_steps=3).num_steps
    3
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        step_size: float = 0.3,
        num_steps: int = 3,
        weight: float = 1.0,
        variable: str = TOKEN_EMBEDDINGS,
    ):
        check_at_least(epsilon, 0, "epsilon", "the radius of the ball")
        check_at_least(step_size, 0, "step_size", "the norm of one step")
        check_at_least(weight, 0, "weight", "the factor of the term")
        self.epsilon = float(epsilon)
        self.step_size = float(step_size)
        self.num_steps = whole_number(num_steps, "num_steps", "a number of steps")
        self.weight = float(weight)
        self.variable = variable

    def __call__(self, step: TrainingStep) -> Any:
        variable = step.variable(self.variable)
        loss = _loss_of(step, variable)
        delta = ops.zeros(variable.shape, dtype="float32")
        for _ in range(self.num_steps):
            gradient = step.gradient(loss, _moved(variable, delta))
            delta = self._project(delta + self.step_size * _unit(gradient))
        return self.weight * loss(_moved(variable, delta))

    def _project(self, delta: Any) -> Any:
        unit, norm = _unit_and_norm(delta)
        return ops.where(norm > self.epsilon, self.epsilon * unit, delta)

    def get_config(self) -> dict[str, Any]:
        return {
            "epsilon": self.epsilon,
            "step_size": self.step_size,
            "num_steps": self.num_steps,
            "weight": self.weight,
            "variable": self.variable,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class VirtualAdversarial(ExtraLoss):
    """Virtual adversarial training: predictions that small changes do not move.

    `weight * KL(p, q(E + epsilon d))`, where `p` are the predictions without dropout,
    constants, and `q` those with it. The direction `d` of norm 1 starts at random and
    is turned `num_steps` times by power iteration, without dropout: `d <- g / |g|`,
    with `g` the gradient of `KL(p, q(E + r))` at `r = xi d`. `E` is the table,
    `(vocabulary_size, dim)`; norms are over the whole table, in float32. A zero `g`
    gives the term 0.

    No label is used. Give rows without one any label and the sample weight 0, which
    only the ordinary loss minds. A training step takes `num_steps + 3` forward and
    `num_steps + 2` backward passes.

    Sources: https://arxiv.org/abs/1704.03976, https://kexue.fm/archives/7466.

    Args:
        epsilon: norm of the change.
        xi: norm of the change at which the gradient is taken.
        num_steps: number of power iterations.
        weight: factor of the term.
        variable: pattern of the path of the weight that is changed.
        from_logits: the model predicts logits over the last axis, not probabilities.
        use_sample_weight: average with the sample weights. For a model that predicts
            at every token they leave the padding out.
        seed: integer; with it and the predictions the random directions are known.

    Raises:
        ValueError: a negative size or weight, `num_steps` below 1; fewer than two
            classes; no or several weights match.

    Example:

    >>> VirtualAdversarial(epsilon=1.0, xi=10.0).num_steps
    1
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        xi: float = 10.0,
        num_steps: int = 1,
        weight: float = 1.0,
        variable: str = TOKEN_EMBEDDINGS,
        from_logits: bool = True,
        use_sample_weight: bool = False,
        seed: int = 0,
    ):
        check_at_least(epsilon, 0, "epsilon", "the norm of the change")
        check_at_least(xi, 0, "xi", "the norm where the gradient is taken")
        check_at_least(weight, 0, "weight", "the factor of the term")
        self.epsilon = float(epsilon)
        self.xi = float(xi)
        self.num_steps = whole_number(num_steps, "num_steps", "a number of iterations")
        self.weight = float(weight)
        self.variable = variable
        self.from_logits = from_logits
        self.use_sample_weight = use_sample_weight
        self.seed = int(seed)
        self._generator = keras.random.SeedGenerator(self.seed)

    def __call__(self, step: TrainingStep) -> Any:
        variable = step.variable(self.variable)
        _, p = step.forward(training=False, constant=True)
        weights = step.sample_weight if self.use_sample_weight else None

        def divergence(table: Any, training: bool = False) -> Any:
            _, q = step.forward([(variable, table)], training=training)
            return mean_divergence(p, q, self.from_logits, weights)

        direction = _unit(self._random_direction(variable.shape, p))
        for _ in range(self.num_steps):
            gradient = step.gradient(divergence, _moved(variable, self.xi * direction))
            direction = _unit(gradient)
        changed = _moved(variable, self.epsilon * direction)
        return self.weight * divergence(changed, training=True)

    def _random_direction(self, shape: Any, p: Any) -> Any:
        """Normal float32 numbers, other ones for other predictions."""
        # JAX keeps no state that is not the model's, so the count comes from the bits
        # of what the model predicts; it differs from step to step.
        scores = [ops.cast(each, "float32") for each in keras.tree.flatten(p)]
        total = sum(ops.sum(ops.square(each)) for each in scores)
        bits = ops.view(ops.reshape(total, (1,)), "int32")[0]
        state = self._generator.state
        seed = ops.convert_to_tensor(self.seed, dtype=state.dtype)
        value = ops.stack([seed, ops.cast(bits, state.dtype)])
        with keras.StatelessScope([(state, value)]):
            return keras.random.normal(shape, dtype="float32", seed=self._generator)

    def get_config(self) -> dict[str, Any]:
        return {
            "epsilon": self.epsilon,
            "xi": self.xi,
            "num_steps": self.num_steps,
            "weight": self.weight,
            "variable": self.variable,
            "from_logits": self.from_logits,
            "use_sample_weight": self.use_sample_weight,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class GradientPenalty(ExtraLoss):
    """A loss that is flat around the embeddings: its squared gradient as a penalty.

    `weight * |dL/dE|^2`, summed over the table `E`, `(vocabulary_size, dim)`, in
    float32. To first order `epsilon |dL/dE|^2` is what an adversarial step of
    `epsilon dL/dE` adds to the loss. Training differentiates the gradient again, so
    every operation of the model must allow that.

    A step takes a second forward pass, and its gradient is differentiated: about four
    times the work of a plain step.

    Source: https://kexue.fm/archives/7234. bert4keras squared the gradients of the rows
    before it summed those of equal tokens; here they are summed first, as the equation
    has it.

    Args:
        weight: factor of the term, by default that of bert4keras.
        variable: pattern of the path of the weight whose gradient is penalized.

    Raises:
        ValueError: a negative `weight`; no or several weights match.

    Example:

    >>> GradientPenalty(weight=0.5).weight
    0.5
    """

    def __init__(self, weight: float = 0.5, variable: str = TOKEN_EMBEDDINGS):
        check_at_least(weight, 0, "weight", "the factor of the term")
        self.weight = float(weight)
        self.variable = variable

    def __call__(self, step: TrainingStep) -> Any:
        variable = step.variable(self.variable)
        loss = _loss_of(step, variable)
        gradient = step.gradient(loss, variable.value, second_order=True)
        return self.weight * ops.sum(ops.square(gradient))

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "variable": self.variable}
