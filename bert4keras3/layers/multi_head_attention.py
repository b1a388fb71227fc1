"""Multi-head attention with rotary positions and any normalizer."""

import functools

import keras
from keras import ops

from bert4keras3.layers import head_convolution as head_convolutions
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.initializer import fresh
from bert4keras3.layers.recompute import recomputed
from bert4keras3.ops import merge_masks


@keras.saving.register_keras_serializable(package="bert4keras3")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention of RoFormer, RoFormerV2 and BERT.

    Per head `O_h = normalize(rope(X W_q) rope(Y W_k)^T / sqrt(key_dim)) Y' W_v`; the
    heads are joined and projected by `W_o`. Kernels are plain matrices (features in,
    features out), as in the released checkpoints. Keras's `MultiHeadAttention` has
    neither rotary positions nor a choice of normalizer.

    Sources: https://arxiv.org/abs/1706.03762, https://arxiv.org/abs/2104.09864.

    Args:
        num_heads: number of heads `N`.
        head_dim: size of a value vector.
        key_dim: size of a query and key vector, by default `head_dim`.
        output_dim: width of the output, by default `num_heads * head_dim`.
        normalizer: name, config or instance, see `attention_normalizer`.
        rotary_embedding: name, config or instance, or `None`.
        use_bias: add biases to the four projections.
        use_scale: divide the products by `sqrt(key_dim)`.
        dropout: rate applied to the attention weights.
        kernel_initializer: initializer of all kernels.
        position_bias: name, config or instance, see `attention_bias`; or `None`.
        query_key_norm: name, config or instance, see `query_key_norm`; or `None`.
        position_weighting: name, config or instance, see `position_weighting`; or
            `None`.
        window: a `LocalMask` or the size of a window, computed in blocks (see
            `window_attention`); the layer then takes no `attention_mask` beside the
            padding. `None` for all keys.
        head_convolution: name, width, config or instance, see `head_convolution`:
            Primer's convolution of queries, keys and values, one for each; `None` for
            none. It knows the padding of keys, and of queries that are the keys.

    Call arguments:
        query: `(B, T, D)`.
        key: `(B, S, D_k)`, by default the query.
        value: `(B, S, D_v)`, by default the key.
        padding_mask: `(B, S)`, true or 1 where the *key* is a token.
        attention_mask: `(T, S)`, `(B, T, S)` or `(B, N, T, S)`, true where the query
            may attend; combined with `padding_mask`.
        attention_bias: float, `(T, S)`, `(B, T, S)` or broadcasts to `(B, N, T, S)`,
            added to the scaled logits.
        query_positions, key_positions: `(L,)` or `(B, L)`, `None` for `0 .. L-1`.
        return_logits: also return the scaled products `(B, N, T, S)`, float32, with
            the position bias but before bias and mask (what RealFormer passes on).
        return_weights: also return the attention weights `(B, N, T, S)`, float32.

    Returns:
        `(B, T, output_dim)`, or a tuple with the extras in the order above.

    Example:

    >>> attention = MultiHeadAttention(2, 4, rotary_embedding="rope")
    >>> tuple(attention(np.ones((1, 3, 8), "float32")).shape)
    (1, 3, 8)
    """

    # See `Backbone.enable_recompute`.
    recomputable = ("attention",)
    recompute = None

    def __init__(
        self,
        num_heads,
        head_dim,
        key_dim=None,
        output_dim=None,
        normalizer="softmax",
        rotary_embedding=None,
        use_bias=True,
        use_scale=True,
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        position_bias=None,
        query_key_norm=None,
        position_weighting=None,
        window=None,
        head_convolution=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.key_dim = key_dim or head_dim
        self.output_dim = output_dim or num_heads * head_dim
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.head_convolution = head_convolutions.get(head_convolution)
        self.attention = DotProductAttention(
            normalizer=normalizer,
            rotary_embedding=rotary_embedding,
            use_scale=use_scale,
            dropout=dropout,
            position_bias=position_bias,
            query_key_norm=query_key_norm,
            position_weighting=position_weighting,
            window=window,
            dtype=self.dtype_policy,
            name="attention",
        )

    def build(self, query_shape, key_shape=None, value_shape=None):
        self.attention.check_key_dim(self.key_dim)
        key_shape = key_shape or query_shape
        value_shape = value_shape or key_shape
        self.query_dense = self._dense(self.num_heads * self.key_dim, "query_dense")
        self.key_dense = self._dense(self.num_heads * self.key_dim, "key_dense")
        self.value_dense = self._dense(self.num_heads * self.head_dim, "value_dense")
        self.output_dense = self._dense(self.output_dim, "output_dense")
        self.query_dense.build(query_shape)
        self.key_dense.build(key_shape)
        self.value_dense.build(value_shape)
        self.output_dense.build((*query_shape[:-1], self.num_heads * self.head_dim))
        heads = (None, self.num_heads, None)
        key_shape, value_shape = (*heads, self.key_dim), (*heads, self.head_dim)
        self.query_convolution = self._convolution("query_convolution", key_shape)
        self.key_convolution = self._convolution("key_convolution", key_shape)
        self.value_convolution = self._convolution("value_convolution", value_shape)
        self.attention.build(key_shape, key_shape, value_shape)

    def _dense(self, units, name):
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def _convolution(self, name, shape):
        if self.head_convolution is None:
            return lambda x, padding_mask: x
        config = self.head_convolution.get_config()
        layer = type(self.head_convolution).from_config(
            {**config, "name": name, "dtype": self.dtype_policy}
        )
        layer.build(shape)
        return layer

    def call(
        self,
        query,
        key=None,
        value=None,
        padding_mask=None,
        attention_mask=None,
        attention_bias=None,
        query_positions=None,
        key_positions=None,
        return_logits=False,
        return_weights=False,
        training=None,
    ):
        query = ops.cast(query, self.compute_dtype)
        query_padding_mask = None
        if key is None:
            key, query_padding_mask = query, padding_mask
            if key_positions is None:
                key_positions = query_positions
        key = ops.cast(key, self.compute_dtype)
        value = key if value is None else ops.cast(value, self.compute_dtype)
        extras = {"return_logits": return_logits, "return_weights": return_weights}
        return recomputed(
            functools.partial(self.attend, **extras),
            self.recompute == "attention" and not any(extras.values()),
            [self.attention.dropout_layer],
            training,
            query=self.query_dense(query),
            key=self.key_dense(key),
            value=self.value_dense(value),
            query_padding_mask=query_padding_mask,
            padding_mask=padding_mask,
            attention_mask=attention_mask,
            attention_bias=attention_bias,
            query_positions=query_positions,
            key_positions=key_positions,
        )

    def attend(
        self,
        query,
        key,
        value,
        query_padding_mask,
        padding_mask,
        attention_mask,
        return_logits,
        return_weights,
        **options,
    ):
        """What follows the projections of query, key and value."""
        query, key, value = map(self._split_heads, (query, key, value))
        outputs = self.attention(
            self.query_convolution(query, query_padding_mask),
            self.key_convolution(key, padding_mask),
            self.value_convolution(value, padding_mask),
            attention_mask=merge_masks(padding_mask, attention_mask),
            return_logits=return_logits,
            return_weights=return_weights,
            **options,
        )
        if not (return_logits or return_weights):
            return self.output_dense(self._join_heads(outputs))
        context, *extras = outputs
        return (self.output_dense(self._join_heads(context)), *extras)

    def _split_heads(self, x):
        """`(B, L, N * H)` to `(B, N, L, H)`."""
        head_dim = x.shape[-1] // self.num_heads
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.num_heads, head_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def _join_heads(self, x):
        """`(B, N, L, H)` to `(B, L, N * H)`."""
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, ops.shape(x)[1], self.num_heads * self.head_dim))

    def compute_output_spec(
        self,
        query,
        key=None,
        value=None,
        return_logits=False,
        return_weights=False,
        **kwargs,
    ):
        batch, rows, _ = query.shape
        columns = rows if key is None else key.shape[1]
        output = keras.KerasTensor(
            (batch, rows, self.output_dim), dtype=self.compute_dtype
        )
        extras = [
            keras.KerasTensor((batch, self.num_heads, rows, columns), dtype="float32")
            for wanted in (return_logits, return_weights)
            if wanted
        ]
        return (output, *extras) if extras else output

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "key_dim": self.key_dim,
            "output_dim": self.output_dim,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            **self.attention.shared_config(),
            "head_convolution": head_convolutions.serialize(self.head_convolution),
        }
