"""Norms of query and key: what takes the place of dividing the logits by `sqrt(H)`."""

import math

import keras
from keras import ops

from bert4keras3.naming import resolve_scheme, serialize_scheme


class QueryKeyNorm:
    """Base class: a function of query and key before positions and product.

    `QueryKeyNorm()(query, key, num_keys)` gives the query and the key whose product,
    after the positions have acted on them, is the logit.
    """

    def __call__(self, query, key, num_keys):
        """New query and key, of the shapes and dtypes given.

        Args:
            query, key: `(B, N, T, H)` and `(B, N, S, H)` in the compute dtype.
            num_keys: float32, visible keys per row, broadcasts to `(B, N, T, 1)`.
        """
        raise NotImplementedError

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def unit_vectors(x):
    """`x / |x|` over the last axis in float32; zeros stay zeros."""
    x = ops.cast(x, "float32")
    # Small enough to change no number, large enough for finite slopes at zero.
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-10)


@keras.saving.register_keras_serializable(package="bert4keras3")
class QueryNorm(QueryKeyNorm):
    """QNA: `q / |q| . k`, without a division by `sqrt(H)`.

    Shapes and dtypes stay; the norm is taken in float32, and a zero vector stays zero.
    Padding is hidden after the product. Cost: one pass over the query.

    Source: https://kexue.fm/archives/9859.

    Example:

    >>> query = np.array([[[[3.0, 4.0]]]], "float32")
    >>> np.asarray(QueryNorm()(query, query, 1.0)[0]).round(4).tolist()
    [[[[0.6000000238418579, 0.800000011920929]]]]
    """

    def __call__(self, query, key, num_keys):
        return ops.cast(unit_vectors(query), query.dtype), key


@keras.saving.register_keras_serializable(package="bert4keras3")
class KeyNorm(QueryKeyNorm):
    """KNA: `q . k / |k|`, without a division by `sqrt(H)`.

    Shapes and dtypes stay; the norm is taken in float32, and a zero vector stays zero.
    Padding is hidden after the product. Cost: one pass over the key. It helps a model
    with RoPE to read longer texts than in training; without positions it does not.

    Source: https://kexue.fm/archives/9859.

    Example:

    >>> key = np.array([[[[3.0, 4.0]]]], "float32")
    >>> np.asarray(KeyNorm()(key, key, 1.0)[1]).round(4).tolist()
    [[[[0.6000000238418579, 0.800000011920929]]]]
    """

    def __call__(self, query, key, num_keys):
        return query, ops.cast(unit_vectors(key), key.dtype)


@keras.saving.register_keras_serializable(package="bert4keras3")
class CosineNorm(QueryKeyNorm):
    """CosA: `4 ln(n) cos(q, k)`, without a division by `sqrt(H)`.

    `n` is `length`, or, with `length=None`, the number of keys that the row can see,
    so that padding does not count. Shapes and dtypes stay; norms and logarithm are
    float32, and a zero vector stays zero. Cost: one pass over query and key.

    Source: https://kexue.fm/archives/9859 (half the length of training, or the visible
    keys of a causal row).

    Args:
        length: `n`, above 1; or `None`.

    Raises:
        ValueError: `length` not above 1.

    Example:

    >>> key = np.array([[[[3.0, 4.0]]]], "float32")
    >>> query, key = CosineNorm(length=256)(key, key, 1.0)
    >>> bool(np.allclose(np.sum(query * key), 4 * np.log(256)))
    True
    """

    def __init__(self, length=256):
        if length is not None and not length > 1:
            raise ValueError(
                "`length` must be above 1, as 4 ln(length) multiplies the cosines, or "
                f"None for the number of visible keys. Received {length}."
            )
        self.length = length

    def __call__(self, query, key, num_keys):
        if self.length is None:
            num_keys = ops.cast(num_keys, "float32")
            scale = 4.0 * ops.log(ops.maximum(num_keys, 1.0))
        else:
            scale = 4.0 * math.log(self.length)
        new_query = ops.cast(unit_vectors(query) * scale, query.dtype)
        return new_query, ops.cast(unit_vectors(key), key.dtype)

    def get_config(self):
        return {"length": self.length}


QUERY_KEY_NORMS = {
    "query_norm": QueryNorm,
    "key_norm": KeyNorm,
    "cosine": CosineNorm,
}


def get(identifier):
    """Return a query-key norm for a name, a config or an instance; `None` is none."""
    return resolve_scheme(identifier, QUERY_KEY_NORMS, "query-key norm", QueryKeyNorm)


def serialize(norm):
    """Config of a query-key norm that `get` reads back."""
    return serialize_scheme(norm)
