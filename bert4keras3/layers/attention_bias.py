"""Position schemes that are added to the attention logits.

A scheme has hooks, which the attention core calls. `bias` gives the float32 term that
is added to the scaled logits; `context` sums the values and may add positions to them;
`content_query` and `position_query` may change the query that the products and the bias
see. A new scheme is one class with one hook, and a line in `POSITION_BIASES` if it
should have a name.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.initializer import fresh
from bert4keras3.naming import resolve_scheme, serialize_scheme
from bert4keras3.ops import sinusoidal_embedding, take_rows


class PositionBias(keras.layers.Layer):
    """Base class of the position schemes that are added to the logits.

    `logits = s * Q_c K^T + bias(s * Q_p, ...)`, and `O = context(A, V, ...)`, where
    `Q_c = content_query(Q)` and `Q_p = position_query(Q)` are `Q` itself in most
    schemes. A query-key norm takes the place of `s` in both.

    Positions reach the hooks as the caller gave them: `None` for `0 .. L-1`, or `(L,)`
    or `(B, L)`. A subclass with weights makes them in `build`, from the shapes
    `(B, N, T, H)` of the query and `(B, N, S, E)` of the value. Padding needs no care
    here: the attention core hides keys after the bias has been added. Called by
    itself, with a query and a value, a scheme gives its bias.
    """

    # Whether a model has one for all its layers, or one in each.
    shared_by_layers = True

    def __init__(self, **kwargs):
        # Positions must not be cast to the compute dtype on the way in.
        super().__init__(autocast=False, **kwargs)

    def build(self, query_shape, value_shape=None):
        self.built = True

    def get_config(self):
        # For schemes without arguments of their own: Keras's default would refuse.
        return super().get_config()

    def content_query(self, query):
        """`(B, N, T, H)`: the query, not yet scaled, that meets the keys."""
        return query

    def position_query(self, query):
        """`(B, N, T, H)`: the query, not yet scaled, that `bias` is given."""
        return query

    def bias(self, query, key_length, query_positions=None, key_positions=None):
        """What to add to the scaled logits.

        Args:
            query: `(B, N, T, H)`, what `position_query` gave, already multiplied by
                the scale of the logits.
            key_length: `S`.
            query_positions, key_positions: see the class.

        Returns:
            float32 tensor that broadcasts to `(B, N, T, S)`.
        """
        raise NotImplementedError

    def context(self, weights, value, query_positions=None, key_positions=None):
        """`(B, N, T, E)` from weights `(B, N, T, S)` and values `(B, N, S, E)`."""
        return ops.matmul(weights, value)

    def call(self, query, value, query_positions=None, key_positions=None):
        length = ops.shape(value)[-2]
        query = self.position_query(query)
        return self.bias(query, length, query_positions, key_positions)


def key_offsets(
    query_length, key_length, query_positions=None, key_positions=None, limit=None
):
    """Clipped distances `clip(k_j - q_i, -limit, limit) + limit`, rows of a table.

    Fractional positions are cut to whole distances, towards zero.

    Args:
        query_length, key_length: `T` and `S`.
        query_positions, key_positions: `None` for `0 .. L-1`, or `(L,)` or `(B, L)`.
        limit: largest distance that is told apart.

    Returns:
        int32 tensor `(T, S)`, or `(B, T, S)` if any positions have a batch axis.
    """
    if query_positions is None:
        query_positions = ops.arange(query_length, dtype="int32")
    if key_positions is None:
        key_positions = ops.arange(key_length, dtype="int32")
    dtype = "float32" if _is_float(query_positions, key_positions) else "int32"
    query_positions = ops.cast(query_positions, dtype)
    key_positions = ops.cast(key_positions, dtype)
    offsets = ops.expand_dims(key_positions, -2) - ops.expand_dims(query_positions, -1)
    return ops.cast(ops.clip(offsets, -limit, limit), "int32") + limit


def _is_float(*tensors):
    return any(keras.backend.is_float_dtype(t.dtype) for t in tensors)


def t5_buckets(num_buckets, max_distance, bidirectional):
    """Bucket of each offset `-max_distance .. max_distance`, as T5 shares them.

    Going back from the query, each of the first `m` distances has a bucket of its own
    (`m` is half of the buckets of one direction); from there the bucket grows with the
    logarithm of the distance and the last one holds `max_distance` and all beyond.

    Returns:
        int32 array `(2 * max_distance + 1,)`.
    """
    per_side = num_buckets // 2 if bidirectional else num_buckets
    exact = per_side // 2
    # The first distance of each logarithmic bucket. In exact arithmetic, since a float
    # logarithm may fall on either side of a boundary.
    starts = [
        math.ceil(exact * (max_distance / exact) ** (i / (per_side - exact)) - 1e-9)
        for i in range(1, per_side - exact)
    ]
    distances = np.arange(max_distance + 1)
    coarse = exact + np.searchsorted(starts, distances, side="right")
    back = np.where(distances < exact, distances, coarse)
    ahead = back[1:] + per_side if bidirectional else np.zeros_like(back[1:])
    return np.concatenate([back[::-1], ahead]).astype("int32")


@keras.saving.register_keras_serializable(package="bert4keras3")
class T5Bias(PositionBias):
    """One learned number per head and bucket of distances, added to the logits.

    `l_ij = q_i k_j + e[bucket(j - i)]`. T5 itself leaves the products unscaled
    (`use_scale=False`); if they are scaled, the bias is added after it. Any length
    works: distances from `max_distance` on share a bucket. Cost: `T * S` look-ups,
    shared by the batch.

    Sources: https://arxiv.org/abs/1910.10683, https://kexue.fm/archives/8130.

    Args:
        num_buckets: rows of the table; even, at least 4.
        max_distance: distance at which the last bucket is reached.
        bidirectional: half of the buckets are for keys after the query. `False`, for
            causal attention, puts all of those into bucket 0.
        embeddings_initializer: initializer of the table.

    Raises:
        ValueError: sizes that leave no room for the logarithmic buckets.

    Example:

    >>> t5 = T5Bias(num_buckets=8, max_distance=16)
    >>> query, value = np.ones((1, 2, 3, 4)), np.ones((1, 2, 5, 4))
    >>> tuple(t5(query, value).shape)
    (2, 3, 5)
    """

    def __init__(
        self,
        num_buckets=32,
        max_distance=128,
        bidirectional=True,
        embeddings_initializer="uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        exact = num_buckets // (4 if bidirectional else 2)
        if num_buckets % 2 or exact < 1 or max_distance <= exact:
            raise ValueError(
                f"T5 buckets need an even `num_buckets` of at least 4 (2 if not "
                f"bidirectional) and a `max_distance` beyond the {exact} distances "
                f"that have a bucket of their own. Received num_buckets={num_buckets}, "
                f"max_distance={max_distance}, bidirectional={bidirectional}."
            )
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, query_shape, value_shape=None):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, query_shape[1]),
            initializer=fresh(self.embeddings_initializer),
            autocast=False,
        )

    def buckets(self, *lengths_and_positions):
        """int32 bucket of every pair of query and key, see `key_offsets`."""
        offsets = key_offsets(*lengths_and_positions, limit=self.max_distance)
        table = t5_buckets(self.num_buckets, self.max_distance, self.bidirectional)
        return ops.take(ops.convert_to_tensor(table), offsets, axis=0)

    def bias(self, query, key_length, query_positions=None, key_positions=None):
        buckets = self.buckets(
            ops.shape(query)[-2], key_length, query_positions, key_positions
        )
        table = ops.cast(ops.convert_to_tensor(self.embeddings), "float32")
        return ops.moveaxis(take_rows(table, buckets), -1, -3)  # ([B], N, T, S)

    def get_config(self):
        return {
            **super().get_config(),
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
        }


class RelativeVectors(PositionBias):
    """Base class of the schemes with a vector per clipped distance.

    `l_ij = s q_i (k_j + r_ij)` and `o_i = sum_j a_ij (v_j + r'_ij)` with
    `r_ij = table[clip(j - i, -max_distance, max_distance)]`. A subclass gives the two
    tables. Cost: `T * S * H` for the vectors `r`, shared by heads and batch.

    Args:
        max_distance: largest distance that is told apart.
    """

    shared_by_layers = False

    def __init__(self, max_distance=64, **kwargs):
        super().__init__(**kwargs)
        if max_distance < 1:
            raise ValueError(
                f"`max_distance` must be at least 1. Received {max_distance}."
            )
        self.max_distance = max_distance

    def key_table(self, dim):
        """`(2 * max_distance + 1, dim)` vectors for the logits."""
        raise NotImplementedError

    def value_table(self, dim):
        """`(2 * max_distance + 1, dim)` vectors for the output."""
        raise NotImplementedError

    def vectors(self, table, *lengths_and_positions):
        """Rows of the table for every pair: `(T, S, dim)` or `(B, T, S, dim)`."""
        offsets = key_offsets(*lengths_and_positions, limit=self.max_distance)
        return take_rows(table, offsets)

    def bias(self, query, key_length, query_positions=None, key_positions=None):
        table = ops.cast(self.key_table(query.shape[-1]), query.dtype)
        vectors = self.vectors(
            table, ops.shape(query)[-2], key_length, query_positions, key_positions
        )
        pairs = "btsh" if len(vectors.shape) == 4 else "tsh"
        products = ops.einsum(f"bnth,{pairs}->bnts", query, vectors)
        return ops.cast(products, "float32")

    def context(self, weights, value, query_positions=None, key_positions=None):
        table = ops.cast(self.value_table(value.shape[-1]), value.dtype)
        vectors = self.vectors(
            table,
            ops.shape(weights)[-2],
            ops.shape(value)[-2],
            query_positions,
            key_positions,
        )
        pairs = "btse" if len(vectors.shape) == 4 else "tse"
        return ops.matmul(weights, value) + ops.einsum(
            f"bnts,{pairs}->bnte", weights, vectors
        )

    def get_config(self):
        return {**super().get_config(), "max_distance": self.max_distance}


@keras.saving.register_keras_serializable(package="bert4keras3")
class ShawBias(RelativeVectors):
    """Learned vectors per clipped distance, added to keys and to values.

    See `RelativeVectors` for the equation. The paper has a table for the keys and one
    for the values (https://arxiv.org/abs/1803.02155); bert4keras has one for both.

    Args:
        max_distance: largest distance that is told apart.
        share_table: use one table; key and value must then have the same size.
        embeddings_initializer: initializer of the tables.

    Raises:
        ValueError: one table for keys and values of different sizes.

    Example:

    >>> shaw = ShawBias(max_distance=2)
    >>> query, value = np.ones((1, 2, 3, 4)), np.ones((1, 2, 5, 4))
    >>> tuple(shaw(query, value).shape)
    (1, 2, 3, 5)
    """

    def __init__(
        self,
        max_distance=64,
        share_table=False,
        embeddings_initializer="uniform",
        **kwargs,
    ):
        super().__init__(max_distance, **kwargs)
        self.share_table = share_table
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, query_shape, value_shape=None):
        key_dim = query_shape[-1]
        value_dim = key_dim if value_shape is None else value_shape[-1]
        if self.share_table and key_dim != value_dim:
            raise ValueError(
                f"Keys of size {key_dim} and values of size {value_dim} cannot share a "
                "table of relative positions. Use share_table=False, or equal sizes."
            )
        self.key_embeddings = self._table("key_embeddings", key_dim)
        if not self.share_table:
            self.value_embeddings = self._table("value_embeddings", value_dim)

    def _table(self, name, dim):
        return self.add_weight(
            name=name,
            shape=(2 * self.max_distance + 1, dim),
            initializer=fresh(self.embeddings_initializer),
            autocast=False,
        )

    def key_table(self, dim):
        return ops.convert_to_tensor(self.key_embeddings)

    def value_table(self, dim):
        if self.share_table:
            return self.key_table(dim)
        return ops.convert_to_tensor(self.value_embeddings)

    def get_config(self):
        return {
            **super().get_config(),
            "share_table": self.share_table,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class NezhaBias(RelativeVectors):
    """Sinusoidal vectors per clipped distance, added to keys and to values.

    See `RelativeVectors` for the equation; the table is
    `sinusoidal_embedding(0 .. 2 * max_distance)` and has no weights. Source: NEZHA,
    https://arxiv.org/abs/1909.00204.

    Args:
        max_distance: largest distance that is told apart.

    Example:

    >>> nezha = NezhaBias()
    >>> query, value = np.ones((1, 2, 3, 4)), np.ones((1, 2, 5, 4))
    >>> tuple(nezha(query, value).shape)
    (1, 2, 3, 5)
    """

    def key_table(self, dim):
        return sinusoidal_embedding(ops.arange(2 * self.max_distance + 1), dim)

    def value_table(self, dim):
        return self.key_table(dim)


POSITION_BIASES = {
    "t5": T5Bias,
    "t5_causal": functools.partial(T5Bias, bidirectional=False),
    "shaw": ShawBias,
    "nezha": NezhaBias,
}


def get(identifier, dtype=None):
    """Return a position bias for a name, a config or an instance; `None` is none.

    Args:
        identifier: name in `POSITION_BIASES`, serialized config, or instance.
        dtype: dtype policy of a bias that is made from a name; it is called
            `position_bias`, so that the paths of its weights are always the same.
    """
    return resolve_scheme(
        identifier,
        POSITION_BIASES,
        "position bias",
        PositionBias,
        dtype=dtype,
        name="position_bias",
    )


def serialize(position_bias):
    """Config of a position bias that `get` reads back."""
    return serialize_scheme(position_bias)
