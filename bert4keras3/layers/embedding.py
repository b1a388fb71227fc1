"""Embeddings whose gradients are whole arrays, for the optimizers' sake."""

import keras
from keras import ops

from bert4keras3.ops import take_rows


class _DenseGradient:
    """What both embeddings do in place of Keras's lookup."""

    def look_up(self, ids):
        rows = take_rows(self.embeddings, ops.cast(ids, "int32"))
        return ops.cast(rows, self.compute_dtype)

    def quantize(self, mode=None, type_check=True, config=None):
        # Keras refuses subclasses, which might compute something else.
        return super().quantize(mode, type_check=False, config=config)


@keras.saving.register_keras_serializable(package="bert4keras3")
class Embedding(_DenseGradient, keras.layers.Embedding):
    """Keras's `Embedding`, with a dense gradient; see `ops.take_rows` for the reason.

    Example:

    >>> tuple(Embedding(9, 4)(np.array([[1, 2, 1]])).shape)
    (1, 3, 4)
    """

    def call(self, inputs):
        return self.look_up(inputs)


@keras.saving.register_keras_serializable(package="bert4keras3")
class ReversibleEmbedding(_DenseGradient, keras.layers.ReversibleEmbedding):
    """Keras's `ReversibleEmbedding`, with a dense gradient and a reverse in its dtype.

    Keras would multiply hidden states of a lower precision by the float32 table, which
    takes many times as long on accelerators. See `ops.take_rows` for the gradient.

    Example:

    >>> embedding = ReversibleEmbedding(9, 4)
    >>> tuple(embedding(embedding(np.array([[1, 2, 1]])), reverse=True).shape)
    (1, 3, 9)
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.reverse_dtype = self.reverse_dtype or self.compute_dtype

    def call(self, inputs, reverse=False):
        if reverse:
            return super().call(inputs, reverse=True)
        return self.look_up(inputs)
