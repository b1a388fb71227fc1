"""Mixed chunk attention with heads: the attention of MC-TFM."""

import keras
from keras import ops

from bert4keras3.layers import attention_normalizer
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.attention import DotProductAttention
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
class MixedChunkMultiHeadAttention(keras.layers.Layer):
    """Multi-head self-attention in linear time, FLASH's chunks in a Transformer.

    The row is cut into chunks of `c` places. Per head, in chunk `g`,

    `O = normalize(Q K^T / sqrt(H)) V + Q' (sum_h K'_h^T V_h) / n`,

    the first part over the keys of the chunk, the second over all chunks `h`, or, if
    `causal`, over the chunks before `g`; the heads are joined and projected by `W_o`.
    `Q = X W_q`, `K = X W_k` and `V = X W_v`; `Q'` and `K'` are scales (and offsets,
    with `use_bias`) of `Q` and `K`, and all four are turned by the positions. `n` is
    how many tokens the second part sums; in the first chunk of a causal row it is
    nothing. The scales start at `1 / sqrt(H)`, so that its products start as means.

    `normalize` is FLASH's squared ReLU, over the number of tokens that the row sees in
    its chunk, or another normalizer such as the softmax of a Transformer.

    Padding is hidden as a key and counts nowhere: neither its content nor its length
    changes a token. A row of padding attends to nothing. Chunks begin at the first
    place of the row. Sums across chunks are float32 under every policy.

    Time grows with `T N (c + H) H` and memory with `T N (c + H)`, and, if causal, with
    `T N H^2 / c` for the sums of the chunks: all linear in the length `T`.

    Sources: https://arxiv.org/abs/2202.10447, where MC-TFM++ has it in place of the
    attention of Transformer++, and https://kexue.fm/archives/8934.

    Args:
        num_heads: number of heads `N`.
        head_dim: size `H` of query, key and value of one head, by default `D / N`.
        chunk_size: places `c` of a chunk.
        causal: hide what comes later.
        normalizer: name, config or instance, see `attention_normalizer`.
        rotary_embedding: name, config or instance, see `rotary_embedding`; `None` for
            no positions. Only schemes that rotate queries and keys one by one.
        use_bias: add biases (and offsets to `Q'` and `K'`).
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
        ValueError: `chunk_size` below one, a width that the heads cannot share, a
            rotary embedding with products of its own, an odd `head_dim` with a rotary
            embedding, or a mask of another rank.

    Example:

    >>> layer = MixedChunkMultiHeadAttention(num_heads=2, chunk_size=4, causal=True)
    >>> tuple(layer(np.ones((2, 9, 16), "float32")).shape)
    (2, 9, 16)
    """

    def __init__(
        self,
        num_heads,
        head_dim=None,
        chunk_size=256,
        causal=False,
        normalizer="squared_relu",
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
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.chunk_size = chunk_size
        self.causal = causal
        self.rotary_embedding = rotary_embeddings.get_rotation(
            rotary_embedding, self.dtype_policy
        )
        self.use_bias = use_bias
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        # Within chunks; what it is given has been turned by its positions.
        self.attention = DotProductAttention(
            normalizer, dropout=dropout, dtype=self.dtype_policy, name="attention"
        )

    def build(self, input_shape):
        dim = input_shape[-1]
        if self.head_dim is None and dim % self.num_heads:
            raise ValueError(
                f"A width of {dim} cannot be shared by {self.num_heads} heads. Choose "
                "another `num_heads`, or pass `head_dim`."
            )
        size = self.head_dim or dim // self.num_heads
        if self.rotary_embedding is not None:
            self.rotary_embedding.frequencies(size)
            if not self.rotary_embedding.built:
                self.rotary_embedding.build((None, None, None, size))
        width = self.num_heads * size
        self.query_dense = self._dense(width, "query_dense", dim)
        self.key_dense = self._dense(width, "key_dense", dim)
        self.value_dense = self._dense(width, "value_dense", dim)
        self.linear_query_scale = self._scale_offset("linear_query_scale", width, size)
        self.linear_key_scale = self._scale_offset("linear_key_scale", width, size)
        self.output_dense = self._dense(dim, "output_dense", width)
        self.attention.build((None, self.num_heads, None, size))

    def _dense(self, units, name, dim):
        layer = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, dim))
        return layer

    def _scale_offset(self, name, width, size):
        layer = ScaleOffset(
            use_offset=self.use_bias,
            scale_initializer=keras.initializers.Constant(size**-0.5),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, width))
        return layer

    def call(self, x, padding_mask=None, positions=None, training=None):
        x = ops.cast(x, self.compute_dtype)
        real = ops.expand_dims(real_places(padding_mask, x), 1)
        query, key = self.query_dense(x), self.key_dense(x)
        value = ops.where(real, self._heads(self.value_dense(x)), 0)
        near = self._within_chunks(
            self._place(query, positions),
            self._place(key, positions),
            value,
            real,
            training,
        )
        far = attend_across_chunks(
            self._place(self.linear_query_scale(query), positions),
            ops.where(real, self._place(self.linear_key_scale(key), positions), 0),
            value,
            real,
            self.chunk_size,
            self.causal,
        )
        context = ops.transpose(near + far, (0, 2, 1, 3))
        return self.output_dense(ops.reshape(context, ops.shape(query)))

    def _heads(self, x):
        """`(B, T, N H)` to `(B, N, T, H)`."""
        batch, length, width = ops.shape(x)
        size = width // self.num_heads
        x = ops.reshape(x, (batch, length, self.num_heads, size))
        return ops.transpose(x, (0, 2, 1, 3))

    def _place(self, x, positions):
        """Heads of `(B, T, N H)`, turned by their positions."""
        x = self._heads(x)
        if self.rotary_embedding is None:
            return x
        return self.rotary_embedding.rotate(x, positions)

    def _within_chunks(self, query, key, value, real, training):
        """`(B, N, T, H)`, every chunk as a row of its own."""
        length = ops.shape(query)[2]
        query, key, value, real = (
            into_chunks(tensor, self.chunk_size)
            for tensor in (query, key, value, ops.cast(real, "float32"))
        )
        visible = ops.swapaxes(real, -1, -2) > 0
        if self.causal:
            visible = ops.logical_and(visible, causal_places(ops.shape(query)[-2]))
        attended = self.attention(
            query, key, value, attention_mask=visible, training=training
        )
        return out_of_chunks(attended, length)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "chunk_size": self.chunk_size,
            "causal": self.causal,
            "normalizer": attention_normalizer.serialize(self.attention.normalizer),
            "rotary_embedding": rotary_embeddings.serialize(self.rotary_embedding),
            "use_bias": self.use_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
