"""Losses that Keras lacks: training sentence vectors by comparing them in a batch.

Both see a batch of vectors `(B, D)` in which rows `2k` and `2k + 1` are a pair. They
run in float32 whatever the dtype of the vectors. Loss and gradient are finite for
finite vectors, zeros included: a vector of zeros has cosine 0 with all. `B` must be
even.
"""

import keras
from keras import ops

from bert4keras3.ops import MASKED_LOGIT


def _unit(vectors):
    """float32 vectors of length 1; those of length 0 stay."""
    vectors = ops.cast(vectors, "float32")
    # By the largest entry first, so that squares neither overflow nor vanish.
    largest = ops.max(ops.abs(vectors), axis=-1, keepdims=True)
    vectors = vectors / ops.stop_gradient(ops.where(largest > 0, largest, 1.0))
    squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    # The inner `where` keeps the infinite slope of the root at 0 out of the gradient.
    length = ops.sqrt(ops.where(squared > 0, squared, 1.0))
    return vectors / length


def _check_pairs(y_pred):
    shape = tuple(y_pred.shape)
    # TensorFlow traces `fit` without knowing how many rows a batch will have.
    rows = 2 if len(shape) == 2 and shape[0] is None else shape[0]
    if len(shape) != 2 or rows % 2 or rows < 2:
        raise ValueError(
            "Vectors must have the shape (2 * pairs, dim) with pairs in rows 2k and "
            f"2k + 1. Received {shape}. Give the task pairs of texts, or batches of an "
            "even size."
        )


def cosent_loss(y_true, y_pred, scale=20.0):
    """Rank the cosines of pairs as their labels are ranked (CoSENT).

        loss = log(1 + sum exp(scale * (cos_j - cos_i)))

    over all pairs of pairs `i, j` in the batch with `label_i > label_j`. Labels may be
    0 and 1, or grades of similarity: only their order counts.

    Source: https://kexue.fm/archives/8847.

    Args:
        y_true: `(B,)` or `(B, 1)`, the label of a pair in row `2k`; row `2k + 1` is not
            read.
        y_pred: `(B, D)` vectors, pairs in rows `2k` and `2k + 1`.
        scale: float, `lambda` of the post.

    Returns:
        float32 scalar, 0 where all labels are equal.

    Raises:
        ValueError: vectors that are not pairs.

    Example:

    >>> vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], "float32")
    >>> right = float(cosent_loss(np.array([1, 1, 0, 0]), vectors))
    >>> wrong = float(cosent_loss(np.array([0, 0, 1, 1]), vectors))
    >>> right < 1e-6, round(wrong, 3)
    (True, 20.0)
    """
    _check_pairs(y_pred)
    labels = ops.reshape(ops.cast(y_true, "float32"), (-1,))[::2]
    vectors = _unit(y_pred)
    cosines = scale * ops.sum(vectors[::2] * vectors[1::2], axis=-1)
    differences = ops.expand_dims(cosines, 0) - ops.expand_dims(cosines, 1)
    counts = ops.expand_dims(labels, 1) > ops.expand_dims(labels, 0)
    terms = ops.reshape(ops.where(counts, differences, MASKED_LOGIT), (-1,))
    return ops.logsumexp(ops.concatenate([ops.zeros((1,), "float32"), terms]))


def simcse_loss(y_true, y_pred, temperature=0.05):
    """Each vector's nearest in the batch should be its partner (SimCSE).

        loss_i = -log(exp(cos(i, p) / temperature) / sum_j exp(cos(i, j) / temperature))

    `p` is the partner of row `i` and `j` runs over all rows but `i`. Unsupervised, a
    pair is one text twice, told apart by dropout only; supervised, two texts of the
    same meaning.

    Sources: https://kexue.fm/archives/8348, https://arxiv.org/abs/2104.08821.

    Args:
        y_true: is not read; `fit` needs some, such as zeros `(B,)`.
        y_pred: `(B, D)` vectors, pairs in rows `2k` and `2k + 1`.
        temperature: float above 0.

    Returns:
        float32 tensor `(B,)`.

    Raises:
        ValueError: vectors that are not pairs, or a temperature that is not positive.

    Example:

    >>> vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], "float32")
    >>> bool(simcse_loss(None, vectors)[0] < 1e-6)
    True
    """
    if not temperature > 0:
        raise ValueError(
            f"`temperature` must be above 0, such as 0.05. Received {temperature}."
        )
    _check_pairs(y_pred)
    rows = ops.arange(ops.shape(y_pred)[0])
    partner = rows + 1 - 2 * (rows % 2)
    vectors = _unit(y_pred)
    logits = ops.matmul(vectors, ops.transpose(vectors)) / temperature
    own = ops.expand_dims(rows, 1) == ops.expand_dims(rows, 0)
    logits = ops.where(own, MASKED_LOGIT, logits)
    right = ops.expand_dims(partner, 1) == ops.expand_dims(rows, 0)
    chosen = ops.sum(ops.where(right, logits, 0.0), axis=-1)
    return ops.logsumexp(logits, axis=-1) - chosen


@keras.saving.register_keras_serializable(package="bert4keras3")
class CoSENTLoss(keras.losses.Loss):
    """`cosent_loss` for `compile(loss=...)`: one number per batch.

    Args:
        scale: float.
        **kwargs: of `keras.losses.Loss`.

    Example:

    >>> vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], "float32")
    >>> round(float(CoSENTLoss()(np.array([0, 0, 1, 1]), vectors)), 3)
    20.0
    """

    def __init__(self, scale=20.0, name="cosent_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = scale

    def call(self, y_true, y_pred):
        return cosent_loss(y_true, y_pred, self.scale)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="bert4keras3")
class SimCSELoss(keras.losses.Loss):
    """`simcse_loss` for `compile(loss=...)`, the mean over the batch.

    Args:
        temperature: float.
        **kwargs: of `keras.losses.Loss`.

    Example:

    >>> vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], "float32")
    >>> float(SimCSELoss()(np.zeros(4), vectors)) < 1e-6
    True
    """

    def __init__(self, temperature=0.05, name="simcse_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        return simcse_loss(y_true, y_pred, self.temperature)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
