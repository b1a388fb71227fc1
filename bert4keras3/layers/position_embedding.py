"""Absolute positions: a learned table, and sines and cosines."""

import keras
from keras import ops

from bert4keras3.layers.initializer import fresh
from bert4keras3.naming import lookup
from bert4keras3.ops import sinusoidal_embedding, take_rows


@keras.saving.register_keras_serializable(package="bert4keras3")
class PositionEmbedding(keras.layers.Layer):
    """`y = x + E[position]`, one trained vector per absolute position, as in BERT.

    With `hierarchical_alpha`, a table of `n` rows reaches `n * n` positions, and the
    first `n` keep their vectors:
    `E'[i n + j] = alpha u[i] + (1 - alpha) u[j]`, `u = (E - alpha E[0]) / (1 - alpha)`.
    Source: https://kexue.fm/archives/7947.

    Args:
        max_sequence_length: rows `n` of the table; longer inputs are an error.
        embeddings_initializer: initializer of the table.
        hierarchical_alpha: `alpha` between 0 and 1 but not 0.5, where the positions
            `i n + j` and `j n + i` would be the same; the source takes 0.4. `None` for
            the plain table.

    Call arguments:
        x: `(B, T, D)`.
        positions: integers `(T,)` or `(B, T)`, `None` for `0 .. T-1`. What lies beyond
            the table is not checked.

    Raises:
        ValueError: the (static) length is beyond the table, or a bad `alpha`.

    Example:

    >>> tuple(PositionEmbedding(8)(np.ones((2, 5, 4), "float32")).shape)
    (2, 5, 4)
    """

    def __init__(
        self,
        max_sequence_length,
        embeddings_initializer="uniform",
        hierarchical_alpha=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        alpha = hierarchical_alpha
        if alpha is not None and (not 0 < alpha < 1 or alpha == 0.5):
            raise ValueError(
                "`hierarchical_alpha` must lie between 0 and 1, and 0.5 is no use: it "
                f"gives positions i*n+j and j*n+i one vector. Received {alpha}; 0.4 is "
                "the usual choice."
            )
        self.max_sequence_length = max_sequence_length
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.hierarchical_alpha = hierarchical_alpha

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.max_sequence_length, input_shape[-1]),
            initializer=fresh(self.embeddings_initializer),
        )

    @property
    def reach(self):
        """How many positions there are."""
        order = 1 if self.hierarchical_alpha is None else 2
        return self.max_sequence_length**order

    def call(self, x, positions=None):
        length = x.shape[1]
        if positions is None and length is not None and length > self.reach:
            raise ValueError(
                f"A sequence of {length} tokens does not fit the position table of "
                f"{self.reach}. Truncate the text, set `hierarchical_alpha`, or use a "
                "model with rotary positions, which have no table."
            )
        x = ops.cast(x, self.compute_dtype)
        table = ops.convert_to_tensor(self.embeddings)
        if self.hierarchical_alpha is not None:
            if positions is None:
                positions = ops.arange(ops.shape(x)[1], dtype="int32")
            return x + ops.cast(self._decompose(table, positions), x.dtype)
        table = ops.cast(table, x.dtype)
        if positions is None:
            return x + table[: ops.shape(x)[1]]
        return x + take_rows(table, ops.cast(positions, "int32"))

    def _decompose(self, table, positions):
        alpha, rows = self.hierarchical_alpha, self.max_sequence_length
        table = ops.cast(table, "float32")
        base = (table - alpha * table[:1]) / (1 - alpha)
        positions = ops.cast(positions, "int32")
        coarse = take_rows(base, positions // rows)
        fine = take_rows(base, positions % rows)
        return alpha * coarse + (1 - alpha) * fine

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_sequence_length": self.max_sequence_length,
            "embeddings_initializer": keras.initializers.serialize(
                self.embeddings_initializer
            ),
            "hierarchical_alpha": self.hierarchical_alpha,
        }


def _concatenate(x, embedding):
    shape = (*ops.shape(x)[:-1], embedding.shape[-1])
    return ops.concatenate([x, ops.broadcast_to(embedding, shape)], axis=-1)


def _replace(x, embedding):
    return ops.broadcast_to(embedding, (*ops.shape(x)[:-1], embedding.shape[-1]))


# How the embedding of the positions meets the input.
MERGES = {
    "add": lambda x, embedding: x + embedding,
    "multiply": lambda x, embedding: x * (1.0 + embedding),
    "concatenate": _concatenate,
    "replace": _replace,
}


@keras.saving.register_keras_serializable(package="bert4keras3")
class SinusoidalPositionEmbedding(keras.layers.Layer):
    """Positions as sines and cosines, without weights and of any length.

    `e[p, 2i] = sin(p w_i)`, `e[p, 2i+1] = cos(p w_i)`,
    `w_i = max_wavelength ** (-2 i / dim)`, in float32 under every dtype policy.
    Source: https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
        merge: `"add"` gives `x + e`, `"multiply"` gives `x * (1 + e)`, `"concatenate"`
            gives `[x, e]`, and `"replace"` gives `e` in the shape of the input.
        embedding_dim: size of `e`, by default that of the input.
        max_wavelength: base of the frequencies.

    Call arguments:
        x: `(B, T, D)`.
        positions: `(T,)` or `(B, T)`, integer or float; `None` for `0 .. T-1`.

    Raises:
        ValueError: odd size, unknown merge, or sizes that cannot be added.

    Example:

    >>> layer = SinusoidalPositionEmbedding(merge="concatenate", embedding_dim=6)
    >>> tuple(layer(np.ones((2, 5, 4), "float32")).shape)
    (2, 5, 10)
    """

    def __init__(
        self, merge="add", embedding_dim=None, max_wavelength=10000.0, **kwargs
    ):
        # Float positions must not be cast to the compute dtype on the way in.
        super().__init__(autocast=False, **kwargs)
        lookup(merge, MERGES, "merge of position and input")
        self.merge = merge
        self.embedding_dim = embedding_dim
        self.max_wavelength = max_wavelength

    def build(self, input_shape):
        dim = self.embedding_dim or input_shape[-1]
        if self.merge in ("add", "multiply") and dim != input_shape[-1]:
            raise ValueError(
                f"Positions of size {dim} cannot be merged by {self.merge!r} with "
                f"inputs of size {input_shape[-1]}. Leave `embedding_dim` out, or use "
                "merge='concatenate'."
            )

    def call(self, x, positions=None):
        x = ops.cast(x, self.compute_dtype)
        if positions is None:
            positions = ops.arange(ops.shape(x)[1], dtype="float32")
        dim = self.embedding_dim or x.shape[-1]
        embedding = sinusoidal_embedding(positions, dim, self.max_wavelength)
        return MERGES[self.merge](x, ops.cast(embedding, x.dtype))

    def compute_output_shape(self, input_shape):
        *outer, dim = input_shape
        size = self.embedding_dim or dim
        return (*outer, dim + size if self.merge == "concatenate" else size)

    def get_config(self):
        return {
            **super().get_config(),
            "merge": self.merge,
            "embedding_dim": self.embedding_dim,
            "max_wavelength": self.max_wavelength,
        }
