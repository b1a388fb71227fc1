"""The attention core that gated attention, multi-head attention and pointers share."""

import math

import keras
from keras import ops

from bert4keras3.layers import attention_bias as position_biases
from bert4keras3.layers import attention_normalizer
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.ops import MASKED_LOGIT, count_visible_keys, with_head_axis


@keras.saving.register_keras_serializable(package="bert4keras3")
class DotProductAttention(keras.layers.Layer):
    """`O = normalize(t * (s * Q K^T + p + bias), mask) V`, the one attention core.

    `s` is `1 / sqrt(H)` (or 1), `t` the normalizer's temperature, which depends on how
    many keys the row can see, and `p` the position bias. Logits, masking and normalizer
    run in float32 whatever the compute dtype. A key is hidden by a large finite
    negative logit, never by -inf, and a row that sees no key gives zeros.

    Args:
        normalizer: name, config or instance, see `attention_normalizer`.
        rotary_embedding: name, config or instance, see `rotary_embedding`; `None` for
            no positions.
        use_scale: divide the products by `sqrt(H)`.
        dropout: rate applied to the attention weights.
        position_bias: name, config or instance, see `attention_bias`; `None` for none.

    Call arguments:
        query: `(B, N, T, H)`.
        key: `(B, N, S, H)`.
        value: `(B, N, S, E)`.
        attention_mask: boolean, broadcasts to `(B, N, T, S)`; true where the query may
            attend to the key (`ops.merge_masks` makes it). `None` hides nothing.
        attention_bias: float, `(T, S)`, `(B, T, S)` or broadcasts to `(B, N, T, S)`,
            added to the scaled logits.
        query_positions, key_positions: `(T,)`/`(S,)` or with a leading `B`.
        return_logits: also return the scaled products, with the position bias, before
            `attention_bias` and mask.
        return_weights: also return the weights (before dropout).

    Returns:
        `(B, N, T, E)`; a tuple `(output, logits?, weights?)` if asked for.
    """

    def __init__(
        self,
        normalizer="softmax",
        rotary_embedding=None,
        use_scale=True,
        dropout=0.0,
        position_bias=None,
        **kwargs,
    ):
        # Biases and positions must reach call() in their own precision.
        super().__init__(autocast=False, **kwargs)
        self.normalizer = attention_normalizer.get(normalizer)
        self.rotary_embedding = rotary_embeddings.get(rotary_embedding)
        self.use_scale = use_scale
        self.dropout = dropout
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.position_bias = position_biases.get(position_bias, self.dtype_policy)

    def build(self, query_shape, key_shape=None, value_shape=None):
        # The layer is shared if the same instance was given to others as well.
        if self.position_bias is not None and not self.position_bias.built:
            self.position_bias.build(query_shape, value_shape)

    def call(
        self,
        query,
        key,
        value,
        attention_mask=None,
        attention_bias=None,
        query_positions=None,
        key_positions=None,
        return_logits=False,
        return_weights=False,
        training=None,
    ):
        query, key, value = (
            ops.cast(tensor, self.compute_dtype) for tensor in (query, key, value)
        )
        num_keys = count_visible_keys(attention_mask, ops.shape(key)[-2])
        temperature = self.normalizer.temperature(num_keys)
        if self.use_scale:
            # Before the product, which float16 could not hold otherwise.
            query = query * (1.0 / math.sqrt(query.shape[-1]))

        logits = self.scores(query, key, query_positions, key_positions)
        logits = ops.cast(logits, "float32")
        if self.position_bias is not None:
            logits = logits + self.position_bias.bias(
                query, ops.shape(key)[-2], query_positions, key_positions
            )
        scaled_products = logits
        if attention_bias is not None:
            bias = with_head_axis(attention_bias, "attention_bias")
            logits = logits + ops.cast(bias, "float32")
        if temperature is not None:
            logits = logits * temperature
        if attention_mask is not None:
            logits = ops.where(attention_mask, logits, MASKED_LOGIT)
        weights = self.normalizer(logits, num_keys)
        if attention_mask is not None:
            # A row without a visible key is uniform after a softmax: make it zero.
            weights = weights * ops.cast(num_keys > 0, "float32")

        dropped = self.dropout_layer(ops.cast(weights, value.dtype), training=training)
        if self.position_bias is None:
            context = ops.matmul(dropped, value)
        else:
            context = self.position_bias.context(
                dropped, value, query_positions, key_positions
            )
        extras = [scaled_products] * return_logits + [weights] * return_weights
        return (context, *extras) if extras else context

    def check_key_dim(self, key_dim):
        """Refuse a key size that the positions cannot use, before anything runs.

        Raises:
            ValueError: odd size with a rotary embedding.
        """
        if self.rotary_embedding is not None:
            self.rotary_embedding.frequencies(key_dim)

    def scores(self, query, key, query_positions, key_positions):
        if self.rotary_embedding is None:
            return ops.matmul(query, ops.swapaxes(key, -1, -2))
        return self.rotary_embedding.scores(query, key, query_positions, key_positions)

    def compute_output_spec(
        self,
        query,
        key,
        value,
        return_logits=False,
        return_weights=False,
        **kwargs,
    ):
        *rows, _ = query.shape
        output = keras.KerasTensor((*rows, value.shape[-1]), dtype=self.compute_dtype)
        extras = [
            keras.KerasTensor((*rows, key.shape[-2]), dtype="float32")
            for wanted in (return_logits, return_weights)
            if wanted
        ]
        return (output, *extras) if extras else output

    def get_config(self):
        return {
            **super().get_config(),
            "normalizer": attention_normalizer.serialize(self.normalizer),
            "rotary_embedding": rotary_embeddings.serialize(self.rotary_embedding),
            "use_scale": self.use_scale,
            "dropout": self.dropout,
            "position_bias": position_biases.serialize(self.position_bias),
        }
