"""Multi-head linear attention: a feature map in place of the softmax."""

import keras
from keras import ops

from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.chunks import (
    causal_places,
    into_chunks,
    out_of_chunks,
    real_places,
    sum_of_earlier,
)
from bert4keras3.layers.initializer import fresh
from bert4keras3.naming import check_at_least, lookup


def elu_plus_one(x):
    """`elu(x) + 1`: `x + 1` for positive `x`, else `exp(x)`."""
    return ops.elu(x) + 1.0


# Positive everywhere, so that no denominator is zero where there is a key.
FEATURE_MAPS = {
    "elu_plus_one": elu_plus_one,
    "exponential": ops.exp,
    "softplus": ops.softplus,
}


@keras.saving.register_keras_serializable(package="bert4keras3")
class LinearAttention(keras.layers.Layer):
    """Multi-head self-attention in linear time, with rotary positions.

    `o_i = sum_j (R_i f(q_i) . R_j f(k_j)) v_j / sum_j f(q_i) . f(k_j)`, per head, with
    `q = x W_q`, `k = x W_k`, `v = x W_v` and the positive feature map `f`; the heads'
    outputs are joined and multiplied by `W_o`. `j` runs over all tokens, or, if
    `causal`, over `j <= i`. The positions turn the numerator only: turned products may
    be negative, and a denominator of such could be zero. So the factors of the values
    need not sum to one.

    Padding is hidden as a key: neither its content nor its length changes a token. A
    row of padding attends to nothing. All sums are float32 under every policy.

    Time grows with `T H^2` per head and memory with `T H`, and, if causal, with
    `T H (c + H)` and `T (H + c + H^2 / c)`: all linear in the length `T`.

    Sources: https://arxiv.org/abs/2006.16236; https://arxiv.org/abs/2104.09864,
    equation 19, and https://kexue.fm/archives/8265 for the positions.

    Args:
        num_heads: number of heads.
        head_dim: size `H` of query, key and value of one head, by default
            `D / num_heads`.
        feature_map: `"elu_plus_one"`, `"exponential"` or `"softplus"`.
        causal: hide what comes later.
        chunk_size: places `c` that a causal row is summed in; changes no number.
        rotary_embedding: name, config or instance, see `rotary_embedding`; `None` for
            no positions. Only schemes that rotate queries and keys one by one.
        use_bias: add biases.
        kernel_initializer: initializer of all kernels.

    Call arguments:
        x: `(B, T, D)`.
        padding_mask: `(B, T)`, true or 1 where there is a token.
        positions: `(T,)` or `(B, T)`, `None` for `0 .. T-1`.

    Returns:
        `(B, T, D)`.

    Raises:
        ValueError: an unknown feature map, `chunk_size` below one, a rotary embedding
            with products of its own, an odd `head_dim` with a rotary embedding, a
            width that the heads cannot share, or a mask of another rank.

    Example:

    >>> layer = LinearAttention(num_heads=2, causal=True)
    >>> tuple(layer(np.ones((2, 9, 16), "float32")).shape)
    (2, 9, 16)
    """

    def __init__(
        self,
        num_heads,
        head_dim=None,
        feature_map="elu_plus_one",
        causal=False,
        chunk_size=64,
        rotary_embedding="rope",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        # Positions must reach call() in their own precision.
        super().__init__(autocast=False, **kwargs)
        check_at_least(
            chunk_size,
            1,
            "chunk_size",
            "the places of a chunk, which change speed and memory only",
        )
        lookup(feature_map, FEATURE_MAPS, "feature map")
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.feature_map = feature_map
        self.causal = causal
        self.chunk_size = chunk_size
        self.rotary_embedding = rotary_embeddings.get_rotation(
            rotary_embedding, self.dtype_policy
        )
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        dim = input_shape[-1]
        if self.head_dim is None and dim % self.num_heads:
            raise ValueError(
                f"A width of {dim} cannot be shared by {self.num_heads} heads. Choose "
                "another `num_heads`, or pass `head_dim`."
            )
        self._head_dim = self.head_dim or dim // self.num_heads
        if self.rotary_embedding is not None:
            self.rotary_embedding.frequencies(self._head_dim)
            if not self.rotary_embedding.built:
                self.rotary_embedding.build((None, None, None, self._head_dim))
        width = self.num_heads * self._head_dim
        self.query_dense = self._dense(width, "query_dense")
        self.key_dense = self._dense(width, "key_dense")
        self.value_dense = self._dense(width, "value_dense")
        for dense in (self.query_dense, self.key_dense, self.value_dense):
            dense.build(input_shape)
        self.output_dense = self._dense(dim, "output_dense")
        self.output_dense.build((*input_shape[:-1], width))

    def _dense(self, units, name):
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def _heads(self, x):
        """`(B, T, N H)` to float32 `(B, N, T, H)`."""
        batch, length = ops.shape(x)[:2]
        x = ops.reshape(x, (batch, length, self.num_heads, self._head_dim))
        return ops.cast(ops.transpose(x, (0, 2, 1, 3)), "float32")

    def call(self, x, padding_mask=None, positions=None):
        x = ops.cast(x, self.compute_dtype)
        feature_map = FEATURE_MAPS[self.feature_map]
        real = ops.expand_dims(real_places(padding_mask, x), 1)
        query = feature_map(self._heads(self.query_dense(x)))
        key = ops.where(real, feature_map(self._heads(self.key_dense(x))), 0.0)
        value = ops.where(real, self._heads(self.value_dense(x)), 0.0)
        denominator = self._sums(query, key, ops.cast(real, "float32"))
        if self.rotary_embedding is not None:
            query = self.rotary_embedding.rotate(query, positions)
            key = self.rotary_embedding.rotate(key, positions)
        # A row that sees no key has nothing in its numerator either.
        denominator = ops.where(denominator > 0, denominator, 1.0)
        context = self._sums(query, key, value) / denominator
        context = ops.transpose(context, (0, 2, 1, 3))
        batch, length = ops.shape(x)[:2]
        context = ops.reshape(context, (batch, length, self.num_heads * self._head_dim))
        return self.output_dense(ops.cast(context, self.compute_dtype))

    def _sums(self, query, key, value):
        """`sum_j (query_i . key_j) value_j`, over all `j` or `j <= i`."""
        if not self.causal:
            products = ops.matmul(ops.swapaxes(key, -1, -2), value)
            return ops.matmul(query, products)
        length = ops.shape(query)[-2]
        # One value for all heads is one for each.
        value = ops.broadcast_to(value, (*ops.shape(key)[:-1], value.shape[-1]))
        query, key, value = (
            into_chunks(tensor, self.chunk_size) for tensor in (query, key, value)
        )
        products = ops.matmul(ops.swapaxes(key, -1, -2), value)
        earlier = ops.matmul(query, sum_of_earlier(products, axis=-3))
        visible = causal_places(ops.shape(query)[-2])
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))
        own = ops.matmul(ops.where(visible, scores, 0.0), value)
        return out_of_chunks(earlier + own, length)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "feature_map": self.feature_map,
            "causal": self.causal,
            "chunk_size": self.chunk_size,
            "rotary_embedding": rotary_embeddings.serialize(self.rotary_embedding),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
