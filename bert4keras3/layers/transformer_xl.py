"""Relative positions of Transformer-XL, for any positions of queries and keys."""

import keras
from keras import ops

from bert4keras3.layers.attention_bias import POSITION_BIASES, PositionBias
from bert4keras3.layers.initializer import fresh
from bert4keras3.ops import inverse_frequencies, places_or_given, rotation_angles


@keras.saving.register_keras_serializable(package="bert4keras3")
class TransformerXLBias(PositionBias):
    """Transformer-XL: the distance as a sinusoid, seen through a trained matrix.

    `l_ij = s (q_i + u) . k_j + s (q_i + v) . (W_R r_{i-j})`, where `r_d` holds first
    the sines and then the cosines of `d w_m`, `w_m = 10000 ** (-2 m / dim)`,
    `m = 0 .. dim/2 - 1`. `u` and `v` are vectors for each head and start at zero, so
    that at first the content is compared as without them. `s` is the scale of the
    attention; a query-key norm takes `q_i + u` and `q_i + v` in its place.

    Positions may be any numbers, of each row its own, on either side. Padding needs no
    care: keys are hidden after the bias has been added. No vector is made for a pair:
    the query goes through `W_R` and is turned by its position, and meets the sinusoids
    of the keys' positions, in float32. That costs `N T S dim` products, `dim / H` times
    those of queries and keys, and memory for `N T dim` numbers in each row of the
    batch; a smaller `dim` is cheaper.

    Source: https://arxiv.org/abs/1901.02860, section 3.3. There, and in the authors'
    code, `u` and `v` are one for all layers and `W_R` is trained in each. Here a scheme
    is shared as a whole or not at all: by default one `u`, `v` and `W_R` for all
    layers.

    Args:
        dim: even size of the sinusoid; `None` for `N H` of the query, the width of the
            model in the paper.
        shared_by_layers: whether a model has one for all its layers, or one in each,
            `u` and `v` with it.
        kernel_initializer: initializer of `W_R`, a matrix `(dim, N H)`.

    Raises:
        ValueError: odd size.

    Example:

    >>> bias = TransformerXLBias()
    >>> query, value = np.ones((1, 2, 3, 4)), np.ones((1, 2, 5, 4))
    >>> tuple(bias(query, value).shape)
    (1, 2, 3, 5)
    """

    def __init__(
        self,
        dim=None,
        shared_by_layers=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.shared_by_layers = shared_by_layers
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, value_shape=None):
        _, heads, _, head_dim = query_shape
        dim = self.dim or heads * head_dim
        inverse_frequencies(dim)  # refuses odd sizes
        # A matrix, as every kernel: Glorot's limit would be another for three axes.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(dim, heads * head_dim),
            initializer=fresh(self.kernel_initializer),
            autocast=False,
        )
        self.content_bias, self.position_bias = (
            self.add_weight(
                name=name,
                shape=(heads, head_dim),
                initializer="zeros",
                autocast=False,
            )
            for name in ("content_bias", "position_bias")
        )

    def content_query(self, query):
        """`q + u`."""
        return _add_by_head(query, self.content_bias)

    def position_query(self, query):
        """`q + v`."""
        return _add_by_head(query, self.position_bias)

    def bias(self, query, key_length, query_positions=None, key_positions=None):
        rows = places_or_given(ops.shape(query)[-2], query_positions)
        columns = places_or_given(key_length, key_positions)
        # Only distances count, and angles are the more exact the smaller they are.
        origin = rows[..., :1]
        frequencies = inverse_frequencies(self.kernel.shape[0])
        # ([B], 1, L, dim/2)
        query_angles, key_angles = (
            ops.expand_dims(rotation_angles(positions - origin, frequencies), -3)
            for positions in (rows, columns)
        )
        sines, cosines = ops.split(self._through_kernel(query), 2, axis=-1)
        # a sin(i - j) + b cos(i - j), as a product of what depends on i and on j.
        sin, cos = ops.sin(query_angles), ops.cos(query_angles)
        turned = ops.concatenate(
            [cosines * sin - sines * cos, sines * sin + cosines * cos], axis=-1
        )
        places = ops.concatenate([ops.sin(key_angles), ops.cos(key_angles)], axis=-1)
        return ops.matmul(turned, ops.swapaxes(places, -1, -2))

    def _through_kernel(self, query):
        """float32 `(B, N, T, dim)`, `W_R^T q` of each head."""
        _, heads, _, head_dim = query.shape
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), "float32")
        kernel = ops.reshape(kernel, (-1, heads, head_dim))
        return ops.einsum("bnth,dnh->bntd", ops.cast(query, "float32"), kernel)

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "shared_by_layers": self.shared_by_layers,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _add_by_head(query, vectors):
    vectors = ops.cast(ops.convert_to_tensor(vectors), query.dtype)
    return query + ops.expand_dims(vectors, 1)


POSITION_BIASES |= {"transformer_xl": TransformerXLBias}
