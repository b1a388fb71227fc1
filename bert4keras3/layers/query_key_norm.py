"""Norms of query and key: what takes the place of dividing the logits by `sqrt(H)`."""

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


def unit(x):
    """`x / |x|` over the last axis in float32; a zero vector stays zero."""
    x = ops.cast(x, "float32")
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, 1e-12))


@keras.saving.register_keras_serializable(package="bert4keras3")
class QueryNorm(QueryKeyNorm):
    """QNA: the query has length one. `l_ij = (q_i / |q_i|) k_j`.

    There is no division by `sqrt(H)`. Padding is hidden afterwards and counts nowhere.
    Source: https://kexue.fm/archives/9859.
    """

    def __call__(self, query, key, num_keys):
        return ops.cast(unit(query), query.dtype), key


@keras.saving.register_keras_serializable(package="bert4keras3")
class KeyNorm(QueryKeyNorm):
    """KNA: the keys have length one. `l_ij = q_i (k_j / |k_j|)`.

    There is no division by `sqrt(H)`. With rotary positions a model trained so goes on
    at several times its length; without positions it does not. Source:
    https://kexue.fm/archives/9859.
    """

    def __call__(self, query, key, num_keys):
        return query, ops.cast(unit(key), key.dtype)


@keras.saving.register_keras_serializable(package="bert4keras3")
class CosineNorm(QueryKeyNorm):
    """CosA: `l_ij = 4 ln(n) cos(q_i, k_j)`.

    Source: https://kexue.fm/archives/9859, which takes half the length of training for
    `n`, or the number of keys that the row can see.

    Args:
        length: `n`, above 1; `None` for the number of visible keys of each row, at
            least 2, padding not counted.

    Raises:
        ValueError: a length of at most 1.

    Example:

    >>> ones = np.ones((1, 1, 1, 4), "float32")
    >>> query, key = CosineNorm(length=256)(ones, ones, 1.0)
    >>> round(float(np.sum(np.asarray(query) * np.asarray(key))), 2)  # 4 ln(256)
    22.18
    """

    def __init__(self, length=256):
        if length is not None and length <= 1:
            raise ValueError(
                f"`length` must be above 1, since its logarithm is the scale, or None "
                f"for the visible keys of each row. Received {length}."
            )
        self.length = length

    def __call__(self, query, key, num_keys):
        if self.length is not None:
            num_keys = float(self.length)
        scale = 4.0 * ops.log(ops.maximum(ops.cast(num_keys, "float32"), 2.0))
        scaled = ops.cast(unit(query) * scale, query.dtype)
        return scaled, ops.cast(unit(key), key.dtype)

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
