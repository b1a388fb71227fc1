"""Post-norm Transformer layer of BERT, RoFormer and RoFormerV2."""

import keras
from keras import ops

from bert4keras3.layers import attention_bias as position_biases
from bert4keras3.layers import attention_mask as attention_masks
from bert4keras3.layers import attention_normalizer, normalization
from bert4keras3.layers import position_weighting as position_weightings
from bert4keras3.layers import query_key_norm as query_key_norms
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.feed_forward import FeedForward
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.recompute import Dropout, recomputed


@keras.saving.register_keras_serializable(package="bert4keras3")
class TransformerLayer(keras.layers.Layer):
    """`x = N(x + Attention(x))`, then `x = N(x + FeedForward(x))`, with dropout.

    Args:
        num_heads: number of attention heads; `hidden_dim` must be a multiple of it.
        intermediate_dim: width of the feed-forward layer.
        key_dim: size of a query and key vector, by default the head size.
        activation: activation(s) of the feed-forward layer.
        dropout: rate after attention and after feed-forward.
        attention_dropout: rate on the attention weights.
        use_bias: add biases to all projections.
        norm: `"layer_norm"` or `"rms_norm"`.
        epsilon: epsilon of the norms.
        normalizer: attention normalizer.
        rotary_embedding: rotary embedding, or `None`.
        kernel_initializer: initializer of all kernels.
        position_bias: positions added to the logits, or `None`.
        query_key_norm: what takes the place of the scale of the logits, or `None`.
        position_weighting: positions multiplied into the weights, or `None`.
        window: a `LocalMask`, computed in blocks, or `None`.

    Call arguments:
        x: `(B, T, D)`.
        attention_mask: boolean, broadcasts to `(B, N, T, T)`.
        positions: `(T,)` or `(B, T)`, `None` for `0 .. T-1`.

    Returns:
        `(B, T, D)`.
    """

    # See `Backbone.enable_recompute`.
    recomputable = ("layer",)
    recompute = None

    def __init__(
        self,
        num_heads,
        intermediate_dim,
        key_dim=None,
        activation="gelu",
        dropout=0.0,
        attention_dropout=0.0,
        use_bias=True,
        norm="layer_norm",
        epsilon=1e-7,
        normalizer="softmax",
        rotary_embedding=None,
        kernel_initializer="glorot_uniform",
        position_bias=None,
        query_key_norm=None,
        position_weighting=None,
        window=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.norm = norm
        self.epsilon = epsilon
        self.normalizer = attention_normalizer.get(normalizer)
        self.rotary_embedding = rotary_embeddings.get(
            rotary_embedding, self.dtype_policy
        )
        self.position_bias = position_biases.get(position_bias, self.dtype_policy)
        self.query_key_norm = query_key_norms.get(query_key_norm)
        self.position_weighting = position_weightings.get(
            position_weighting, self.dtype_policy
        )
        self.window = attention_masks.get_window(window)
        self.attention_dropout = attention_dropout
        self.use_bias = use_bias
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.feed_forward = FeedForward(
            intermediate_dim,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.attention_norm = self._norm("attention_norm")
        self.feed_forward_norm = self._norm("feed_forward_norm")
        self.dropout_layer = Dropout(dropout, dtype=self.dtype_policy)

    def _norm(self, name):
        return normalization.make(
            self.norm, epsilon=self.epsilon, dtype=self.dtype_policy, name=name
        )

    def build(self, input_shape):
        hidden_dim = input_shape[-1]
        if hidden_dim % self.num_heads:
            raise ValueError(
                f"`hidden_dim` must be a multiple of `num_heads`. Received "
                f"hidden_dim={hidden_dim}, num_heads={self.num_heads}."
            )
        self.attention = MultiHeadAttention(
            num_heads=self.num_heads,
            head_dim=hidden_dim // self.num_heads,
            key_dim=self.key_dim,
            normalizer=self.normalizer,
            rotary_embedding=self.rotary_embedding,
            use_bias=self.use_bias,
            dropout=self.attention_dropout,
            kernel_initializer=self.kernel_initializer,
            position_bias=self.position_bias,
            query_key_norm=self.query_key_norm,
            position_weighting=self.position_weighting,
            window=self.window,
            dtype=self.dtype_policy,
            name="attention",
        )
        for layer in (
            self.attention,
            self.attention_norm,
            self.feed_forward,
            self.feed_forward_norm,
        ):
            layer.build(input_shape)

    def call(self, x, attention_mask=None, positions=None, training=None):
        return recomputed(
            self.transform,
            self.recompute == "layer",
            [
                self.attention.attention.dropout_layer,
                self.dropout_layer,
                self.dropout_layer,
            ],
            training,
            x=ops.cast(x, self.compute_dtype),
            attention_mask=attention_mask,
            positions=positions,
        )

    def transform(self, x, attention_mask, positions, training):
        """The whole layer."""
        attended = self.attention(
            x,
            attention_mask=attention_mask,
            query_positions=positions,
            training=training,
        )
        x = self.attention_norm(x + self.dropout_layer(attended, training=training))
        fed = self.feed_forward(x)
        return self.feed_forward_norm(x + self.dropout_layer(fed, training=training))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        inner = self.feed_forward.get_config()
        return {
            **config,
            "num_heads": self.num_heads,
            "intermediate_dim": inner["intermediate_dim"],
            "key_dim": self.key_dim,
            "activation": inner["activation"],
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "use_bias": self.use_bias,
            "norm": self.norm,
            "epsilon": self.epsilon,
            "normalizer": attention_normalizer.serialize(self.normalizer),
            "rotary_embedding": rotary_embeddings.serialize(self.rotary_embedding),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "position_bias": position_biases.serialize(self.position_bias),
            "query_key_norm": query_key_norms.serialize(self.query_key_norm),
            "position_weighting": position_weightings.serialize(
                self.position_weighting
            ),
            "window": attention_masks.serialize(self.window),
        }
