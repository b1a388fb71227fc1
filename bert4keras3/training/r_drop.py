"""R-Drop: two passes with other dropout must agree."""

from __future__ import annotations

from typing import Any

import keras

from bert4keras3.naming import check_at_least
from bert4keras3.training.divergence import mean_divergence
from bert4keras3.training.extra_loss import ExtraLoss, TrainingStep

__all__ = ["RDrop"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class RDrop(ExtraLoss):
    """R-Drop: the mean loss of two passes, and how far they are apart.

    The term turns the loss `L1` into
    `(L1 + L2) / 2 + alpha / 4 (KL(P1, P2) + KL(P2, P1))`, where `L2` and `P2` are loss
    and predictions of a second pass with other dropout. That is half the loss of the
    paper, so the learning rate need not change. Without dropout the term is 0. The
    divergence is taken over the last axis, in float32, and weighted as the loss is.

    A step takes two forward and two backward passes instead of one each.

    Sources: https://arxiv.org/abs/2106.14448, https://kexue.fm/archives/8496.

    Args:
        alpha: factor of the divergence.
        from_logits: the model predicts logits over the last axis, not probabilities.

    Raises:
        ValueError: a negative `alpha`; fewer than two classes.

    Example:

    >>> from bert4keras3.training.extra_loss import ExtraLosses
    >>> class Classifier(ExtraLosses, keras.Sequential):
    ...     pass
    >>> layers = [keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    >>> model = Classifier(layers)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("adam", loss, extra_losses=[RDrop(alpha=4.0)])
    >>> history = model.fit(np.eye(4), np.array([0, 1, 0, 1]), verbose=0)
    """

    def __init__(self, alpha: float = 4.0, from_logits: bool = True):
        check_at_least(alpha, 0, "alpha", "the factor of the divergence")
        self.alpha = float(alpha)
        self.from_logits = from_logits

    def __call__(self, step: TrainingStep) -> Any:
        loss, y_pred = step.forward()

        def divergence(p: Any, q: Any) -> Any:
            return mean_divergence(p, q, self.from_logits, step.sample_weight)

        apart = divergence(step.y_pred, y_pred) + divergence(y_pred, step.y_pred)
        return (loss - step.loss) / 2 + self.alpha / 4 * apart

    def get_config(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "from_logits": self.from_logits}
