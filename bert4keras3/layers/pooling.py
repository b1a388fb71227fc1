"""Pooling over the tokens of a sequence.

Keras's `GlobalAveragePooling1D` gives NaN for a row without a token, and its
`GlobalMaxPooling1D` knows no mask.
"""

import keras
import numpy as np
from keras import ops

from bert4keras3.naming import resolve_scheme, serialize_scheme

LOWEST = float(np.finfo("float32").min)


class MaskedPooling(keras.layers.Layer):
    """Base class: from `(B, T, D)` and a padding mask to `(B, D)`.

    Call arguments:
        x: `(B, T, D)`.
        padding_mask: `(B, T)`, true or 1 where there is a token; `None` if all are.

    Returns:
        `(B, D)`; zeros for a row without a token.
    """

    def pool(self, x, mask):
        """`(B, D)` from float32 `x` and a mask `(B, T, 1)` of ones and zeros."""
        raise NotImplementedError

    def call(self, x, padding_mask=None):
        if padding_mask is None:
            mask = ops.ones_like(x[..., :1], dtype="float32")
        else:
            mask = ops.cast(ops.cast(padding_mask, "bool"), "float32")
            mask = ops.expand_dims(mask, -1)
        # Padding may hold anything, NaN included: leave it out, do not multiply.
        x = ops.where(mask > 0, ops.cast(x, "float32"), 0.0)
        return ops.cast(self.pool(x, mask), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        # Keras's automatic config refuses a dtype policy that is given as an object.
        return super().get_config()


@keras.saving.register_keras_serializable(package="bert4keras3")
class MaskedAveragePooling(MaskedPooling):
    """`y = sum_t m_t x_t / sum_t m_t` over the tokens, summed in float32.

    See `MaskedPooling` for the call arguments.

    Example:

    >>> x = np.array([[[1.0], [3.0], [9.0]]], "float32")
    >>> float(MaskedAveragePooling()(x, np.array([[1, 1, 0]]))[0, 0])
    2.0
    """

    def pool(self, x, mask):
        return ops.sum(x, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)


@keras.saving.register_keras_serializable(package="bert4keras3")
class MaskedMaxPooling(MaskedPooling):
    """`y = max_t x_t` over the tokens, feature by feature.

    See `MaskedPooling` for the call arguments.

    Example:

    >>> x = np.array([[[1.0], [3.0], [9.0]]], "float32")
    >>> float(MaskedMaxPooling()(x, np.array([[1, 1, 0]]))[0, 0])
    3.0
    """

    def pool(self, x, mask):
        highest = ops.max(ops.where(mask > 0, x, LOWEST), axis=1)
        return ops.where(ops.max(mask, axis=1) > 0, highest, 0.0)


@keras.saving.register_keras_serializable(package="bert4keras3")
class FirstTokenPooling(MaskedPooling):
    """`y = x_0`, the vector of `[CLS]`.

    See `MaskedPooling` for the call arguments. A row that begins with padding gives
    zeros.

    Example:

    >>> x = np.array([[[1.0], [3.0], [9.0]]], "float32")
    >>> float(FirstTokenPooling()(x, np.array([[1, 1, 0]]))[0, 0])
    1.0
    """

    def pool(self, x, mask):
        return x[:, 0]


@keras.saving.register_keras_serializable(package="bert4keras3")
class AttentionPooling(MaskedPooling):
    """A mean of the tokens with learned weights.

    `y = sum_t a_t x_t` with `a = softmax_t(w x_t)` over the tokens. The weights `w`
    start at zero, so that it begins as the plain mean.

    Source: https://arxiv.org/abs/1703.03130 with one row of attention and no hidden
    layer. See `MaskedPooling` for the call arguments.

    Example:

    >>> x = np.array([[[1.0], [3.0], [9.0]]], "float32")
    >>> float(AttentionPooling()(x, np.array([[1, 1, 0]]))[0, 0])
    2.0
    """

    def build(self, input_shape):
        self.token_weights = self.add_weight(
            name="token_weights", shape=(input_shape[-1], 1), initializer="zeros"
        )

    def pool(self, x, mask):
        logits = ops.matmul(x, ops.cast(self.token_weights, "float32"))
        weights = ops.softmax(ops.where(mask > 0, logits, LOWEST), axis=1)
        return ops.sum(weights * mask * x, axis=1)


POOLINGS = {
    "attention": AttentionPooling,
    "first": FirstTokenPooling,
    "max": MaskedMaxPooling,
    "mean": MaskedAveragePooling,
}


def get(identifier, dtype=None, name=None):
    """Return a pooling from its name, config or instance, or `None` for `None`."""
    return resolve_scheme(
        identifier, POOLINGS, "pooling", MaskedPooling, dtype=dtype, name=name
    )


def serialize(pooling):
    """Config that `get` reads back."""
    return serialize_scheme(pooling)
