"""How far two predictions of the same batch are apart."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["Divergence", "mean_divergence"]

SMALLEST_PROBABILITY = 1e-7


@keras.saving.register_keras_serializable(package="bert4keras3")
class Divergence(keras.losses.Loss):
    """Kullback-Leibler divergence of two predictions over the last axis.

    `KL(p, q) = sum_i p_i (log p_i - log q_i)`, averaged over the other axes as Keras
    averages a loss. It runs in float32, and the gradient flows into both predictions.

    Args:
        from_logits: the predictions are logits, not probabilities.

    Call arguments:
        y_true: `(..., C)`, the prediction `p`.
        y_pred: `(..., C)`, the prediction `q`.
        sample_weight: weights of the other axes or of the first ones, optional.

    Returns:
        float32 scalar.

    Raises:
        ValueError: fewer than two classes.

    Example:

    >>> p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    >>> float(Divergence(from_logits=False)(p, q))
    0.1438...
    """

    def __init__(self, from_logits: bool = True):
        super().__init__(name="divergence", dtype="float32")
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if y_pred.shape[-1] < 2:
            raise ValueError(
                "A divergence needs the scores of at least two classes on the last "
                f"axis. Received predictions of shape {tuple(y_pred.shape)}; give a "
                "two-class model two outputs."
            )
        log_p = self._log_probabilities(y_true)
        log_q = self._log_probabilities(y_pred)
        return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)

    def _log_probabilities(self, scores: Any) -> Any:
        if self.from_logits:
            return ops.log_softmax(scores, axis=-1)
        return ops.log(ops.maximum(scores, SMALLEST_PROBABILITY))

    def get_config(self) -> dict[str, Any]:
        return {"from_logits": self.from_logits}


def mean_divergence(
    p: Any, q: Any, from_logits: bool = True, sample_weight: Any = None
) -> Any:
    """`Divergence` of predictions that may be dicts or lists of tensors, summed up.

    Args:
        p, q: predictions of the same structure, each tensor `(..., C)`.
        from_logits: see `Divergence`.
        sample_weight: one tensor for all, or one for each, or `None`.

    Returns:
        float32 scalar.

    Example:

    >>> float(mean_divergence({"a": np.eye(2)}, {"a": np.eye(2)}))
    0.0
    """
    ps, qs = keras.tree.flatten(p), keras.tree.flatten(q)
    weights = keras.tree.flatten(sample_weight)
    if len(weights) == 1:
        weights = weights * len(ps)
    divergence = Divergence(from_logits)
    terms = zip(ps, qs, weights, strict=True)
    return sum(divergence(one, other, weight) for one, other, weight in terms)
