"""Mixed chunk attention: quadratic within chunks of a text, linear across them."""

import math

import keras
from keras import ops

from bert4keras3.layers import activation as activations
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.chunks import (
    attend_across_chunks,
    causal_places,
    into_chunks,
    out_of_chunks,
    real_places,
)
from bert4keras3.layers.initializer import fresh
from bert4keras3.layers.normalization import ScaleOffset
from bert4keras3.naming import check_at_least


@keras.saving.register_keras_serializable(package="bert4keras3")
class MixedChunkAttentionUnit(keras.layers.Layer):
    """Gated attention unit in linear time, the layer of FLASH.

    The row is cut into chunks of `c` places. In chunk `g`

    `O = (U * (V_quad + V_lin)) W_o`,
    `V_quad = relu(Q K^T / sqrt(s))^2 V / n_quad`, over the keys of the chunk, and
    `V_lin = Q' (sum_h K'_h^T V_h) / n_lin`, over all chunks `h`, or, if `causal`, over
    the chunks before `g`;

    `U = f(X W_u)`, `V = f(X W_v)`, `Z = f(X W_z)`, and `Q`, `K`, `Q'`, `K'` are four
    scales (and offsets, with `use_bias`) of `Z`, turned by the positions. `n_quad` is
    how many tokens the row sees in its chunk: the post's `1 / (n s)`, with the tokens
    that are there in place of the paper's constant `1 / (c s)`. `n_lin` is how many
    tokens are summed: all of the row, or those of the earlier chunks (the causal code
    in the paper's appendix divides by another number). In the first chunk of a causal
    row `V_lin` is zero.

    The linear products are not divided by `s`; the scales of `Q'` and `K'` start at
    `1 / sqrt(s)` and not at one, so that a mean of `s` products is what they are at
    first.

    Padding is hidden as a key and counts nowhere: neither its content nor its length
    changes a token. A row of padding attends to nothing. Chunks begin at the first
    place of the row. Sums over keys and across chunks are float32 under every policy.

    Time grows with `T (c + s) (s + e)` and memory with `T (c + s + e)`, and, if
    causal, with `T s e / c` for the sums of the chunks: all linear in the length `T`.

    Sources: https://arxiv.org/abs/2202.10447, section 3.2, and
    https://kexue.fm/archives/8934.

    Args:
        intermediate_dim: width `e` of gate and value.
        key_dim: width `s` of queries and keys.
        chunk_size: places `c` of a chunk.
        causal: hide what comes later.
        activation: activation `f` of every input projection.
        rotary_embedding: name, config or instance, see `rotary_embedding`; `None` for
            no positions. Only schemes that rotate queries and keys one by one.
        use_bias: add biases (and offsets to queries and keys).
        dropout: rate applied to the weights within chunks.
        kernel_initializer: initializer of all kernels.

    Call arguments:
        x: `(B, T, D)`; `T` need not be a multiple of `chunk_size`.
        padding_mask: `(B, T)`, true or 1 where there is a token.
        positions: `(T,)` or `(B, T)`, `None` for `0 .. T-1`. They turn queries and
            keys; what is earlier is a matter of places.

    Returns:
        `(B, T, D)`.

    Raises:
        ValueError: `chunk_size` below one, a rotary embedding with products of its
            own, an odd `key_dim` with a rotary embedding, or a mask of another rank.

    Example:

    >>> unit = MixedChunkAttentionUnit(32, key_dim=8, chunk_size=4, causal=True)
    >>> tuple(unit(np.ones((2, 9, 16), "float32")).shape)
    (2, 9, 16)
    """

    def __init__(
        self,
        intermediate_dim,
        key_dim=128,
        chunk_size=256,
        causal=False,
        activation="silu",
        rotary_embedding="rope",
        use_bias=True,
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        # Positions must reach call() in their own precision.
        super().__init__(autocast=False, **kwargs)
        check_at_least(
            chunk_size, 1, "chunk_size", "the places of a chunk; the paper takes 256"
        )
        self.intermediate_dim = intermediate_dim
        self.key_dim = key_dim
        self.chunk_size = chunk_size
        self.causal = causal
        self.activation = activations.get(activation)
        self.rotary_embedding = rotary_embeddings.get_rotation(
            rotary_embedding, self.dtype_policy
        )
        self.use_bias = use_bias
        self.dropout = dropout
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        z_shape = (None, None, self.key_dim)
        if self.rotary_embedding is not None:
            self.rotary_embedding.frequencies(self.key_dim)
            if not self.rotary_embedding.built:
                self.rotary_embedding.build(z_shape)
        e, s = self.intermediate_dim, self.key_dim
        self.gate_dense = self._dense(e, "gate_dense", self.activation)
        self.value_dense = self._dense(e, "value_dense", self.activation)
        self.shared_dense = self._dense(s, "shared_dense", self.activation)
        for dense in (self.gate_dense, self.value_dense, self.shared_dense):
            dense.build(input_shape)
        small = keras.initializers.Constant(s**-0.5)
        self.query_scale = self._scale_offset("query_scale", "ones")
        self.key_scale = self._scale_offset("key_scale", "ones")
        self.linear_query_scale = self._scale_offset("linear_query_scale", small)
        self.linear_key_scale = self._scale_offset("linear_key_scale", small)
        self.output_dense = self._dense(input_shape[-1], "output_dense")
        self.output_dense.build((*input_shape[:-1], e))

    def _dense(self, units, name, activation=None):
        return keras.layers.Dense(
            units,
            activation=activation,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def _scale_offset(self, name, initializer):
        layer = ScaleOffset(
            use_offset=self.use_bias,
            scale_initializer=initializer,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, self.key_dim))
        return layer

    def call(self, x, padding_mask=None, positions=None, training=None):
        x = ops.cast(x, self.compute_dtype)
        z = self.shared_dense(x)
        real = real_places(padding_mask, x)
        value = ops.where(real, self.value_dense(x), 0)
        quadratic = self._within_chunks(
            self._place(self.query_scale(z), positions),
            self._place(self.key_scale(z), positions),
            value,
            real,
            training,
        )
        linear = attend_across_chunks(
            self._place(self.linear_query_scale(z), positions),
            ops.where(real, self._place(self.linear_key_scale(z), positions), 0),
            value,
            real,
            self.chunk_size,
            self.causal,
        )
        return self.output_dense(self.gate_dense(x) * (quadratic + linear))

    def _place(self, x, positions):
        if self.rotary_embedding is None:
            return x
        return self.rotary_embedding.rotate(x, positions)

    def _within_chunks(self, query, key, value, real, training):
        """`V_quad`, `(B, T, e)`."""
        length = ops.shape(query)[1]
        # Before the product, which float16 could not hold otherwise.
        query = query * (1.0 / math.sqrt(self.key_dim))
        query, key, value, real = (
            into_chunks(tensor, self.chunk_size)
            for tensor in (query, key, value, ops.cast(real, "float32"))
        )
        visible = ops.swapaxes(real, -1, -2)
        if self.causal:
            earlier = causal_places(ops.shape(query)[-2])
            visible = visible * ops.cast(earlier, "float32")
        logits = ops.cast(ops.matmul(query, ops.swapaxes(key, -1, -2)), "float32")
        weights = ops.square(ops.relu(ops.where(visible > 0, logits, 0.0)))
        weights = weights / ops.maximum(ops.sum(visible, axis=-1, keepdims=True), 1.0)
        weights = self.dropout_layer(ops.cast(weights, value.dtype), training=training)
        return out_of_chunks(ops.matmul(weights, value), length)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "key_dim": self.key_dim,
            "chunk_size": self.chunk_size,
            "causal": self.causal,
            "activation": activations.serialize(self.activation),
            "rotary_embedding": rotary_embeddings.serialize(self.rotary_embedding),
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
