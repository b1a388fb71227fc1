"""Losses that Keras lacks: choosing any number of classes, of very many.

Both are written for logits `s`, threshold 0, of global pointers and multi-label
classifiers. They run in float32 whatever the dtype of the logits, and loss and gradient
are finite for all logits, float16's extremes included. A logit of -1e8 or less (-inf
too) marks a class that is excluded: it takes no part.
"""

import keras
from keras import ops

from bert4keras3.ops import MASKED_LOGIT


def multilabel_categorical_crossentropy(y_true, y_pred):
    """Softmax cross-entropy for any number of right classes.

    `loss = log(1 + sum_i (1 - t_i) exp(s_i)) + log(1 + sum_i t_i exp(-s_i))`: every
    right class should score above 0 and every wrong one below. There is nothing to
    balance when a few of very many classes are right. `t_i` may be a probability.

    Sources: https://kexue.fm/archives/7359, https://arxiv.org/abs/2208.02955 (soft
    labels: https://kexue.fm/archives/9064).

    Args:
        y_true: `(..., C)` between 0 and 1.
        y_pred: `(..., C)` logits, without a softmax or a sigmoid.

    Returns:
        float32 tensor `(...)`, summed over the classes.

    Raises:
        ValueError: shapes that differ.

    Example:

    >>> t = np.array([[1.0, 0.0]], "float32")
    >>> float(multilabel_categorical_crossentropy(t, 1e4 * (2 * t - 1))[0])
    0.0
    """
    classes = {y_true.shape[-1], y_pred.shape[-1]} - {None}
    if len(y_true.shape) != len(y_pred.shape) or len(classes) > 1:
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape (..., classes). Received "
            f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}."
        )
    logits = ops.cast(y_pred, "float32")
    right = ops.cast(y_true, "float32")
    included = logits > MASKED_LOGIT / 10
    return _log1p_sum_exp(logits, 1.0 - right, included) + _log1p_sum_exp(
        -logits, right, included
    )


def _log1p_sum_exp(logits, weights, included):
    """`log(1 + sum_i w_i exp(s_i))` over the last axis, without overflow."""
    counts = ops.logical_and(included, weights > 0)
    # The inner `where` keeps log(0) and -inf out of the gradient.
    terms = ops.where(counts, logits, 0.0) + ops.log(ops.where(counts, weights, 1.0))
    terms = ops.where(counts, terms, MASKED_LOGIT)
    zero = ops.zeros_like(terms[..., :1])
    return ops.logsumexp(ops.concatenate([terms, zero], axis=-1), axis=-1)


def sparse_multilabel_categorical_crossentropy(y_true, y_pred, mask_zero=False):
    """`multilabel_categorical_crossentropy` from the indices of the right classes.

    For labels too many to send as zeros and ones, such as the spans of a text: a span
    `(start, end)` is class `start * length + end`. A class that is named twice counts
    once.

    Source: https://kexue.fm/archives/8888.

    Args:
        y_true: integers `(..., K)`, indices of the right classes; negative ones fill
            rows with fewer than `K`.
        y_pred: `(..., C)` logits.
        mask_zero: class 0 is a filler too and takes no part, as in bert4keras.

    Returns:
        float32 tensor `(...)`.

    Raises:
        ValueError: ranks that differ.

    Example:

    >>> logits = np.array([[-9.0, 9.0, -9.0]], "float32")
    >>> loss = sparse_multilabel_categorical_crossentropy(np.array([[1, -1]]), logits)
    >>> bool(loss[0] < 0.001)
    True
    """
    if len(y_true.shape) != len(y_pred.shape):
        raise ValueError(
            "`y_true` must have shape (..., K) for `y_pred` of shape (..., C). "
            f"Received {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
        )
    num_classes = ops.shape(y_pred)[-1]
    logits = ops.cast(y_pred, "float32")
    indices = ops.cast(y_true, "int32")
    if mask_zero:
        indices = ops.where(indices > 0, indices, -1)
        filler = ops.arange(num_classes) == 0
        logits = ops.where(filler, MASKED_LOGIT, logits)
    right = _many_hot(indices, num_classes)
    return multilabel_categorical_crossentropy(right, logits)


def _many_hot(indices, num_classes):
    """float32 `(..., C)`, 1 at the indices; negative indices set nothing."""
    *outer, count = ops.shape(indices)
    indices = ops.reshape(indices, (-1, count))
    rows = ops.shape(indices)[0]
    row = ops.broadcast_to(ops.expand_dims(ops.arange(rows), 1), ops.shape(indices))
    # Fillers go to one column more, which is cut off.
    column = ops.where(indices >= 0, indices, num_classes)
    places = ops.reshape(ops.stack([row, column], axis=-1), (-1, 2))
    hot = ops.scatter_update(
        ops.zeros((rows, num_classes + 1), dtype="float32"),
        places,
        ops.ones_like(places[:, 0], dtype="float32"),
    )
    return ops.reshape(hot[:, :num_classes], (*outer, num_classes))


@keras.saving.register_keras_serializable(package="bert4keras3")
class MultilabelCategoricalCrossentropy(keras.losses.Loss):
    """`multilabel_categorical_crossentropy` for `compile(loss=...)`.

    Example:

    >>> loss = MultilabelCategoricalCrossentropy()
    >>> t = np.array([[1.0, 0.0]], "float32")
    >>> float(loss(t, 1e4 * (2 * t - 1)))
    0.0
    """

    def call(self, y_true, y_pred):
        return multilabel_categorical_crossentropy(y_true, y_pred)


@keras.saving.register_keras_serializable(package="bert4keras3")
class SparseMultilabelCategoricalCrossentropy(keras.losses.Loss):
    """`sparse_multilabel_categorical_crossentropy` for `compile(loss=...)`.

    Args:
        mask_zero: class 0 fills rows with fewer right classes.
    """

    def __init__(self, mask_zero=False, **kwargs):
        super().__init__(**kwargs)
        self.mask_zero = mask_zero

    def call(self, y_true, y_pred):
        return sparse_multilabel_categorical_crossentropy(
            y_true, y_pred, self.mask_zero
        )

    def get_config(self):
        return {**super().get_config(), "mask_zero": self.mask_zero}
