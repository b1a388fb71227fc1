"""The attention core that gated attention, multi-head attention and pointers share."""

import functools
import math

import keras
from keras import ops

from bert4keras3.layers import attention_bias as position_biases
from bert4keras3.layers import attention_mask as attention_masks
from bert4keras3.layers import attention_normalizer
from bert4keras3.layers import position_weighting as position_weightings
from bert4keras3.layers import query_key_norm as query_key_norms
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.initializer import initializers_kept
from bert4keras3.layers.recompute import Dropout
from bert4keras3.layers.window_attention import attend_in_blocks
from bert4keras3.ops import MASKED_LOGIT, count_visible_keys, with_head_axis

SHARED_ARGUMENTS = (
    "normalizer",
    "rotary_embedding",
    "use_scale",
    "dropout",
    "position_bias",
    "query_key_norm",
    "position_weighting",
    "window",
)


@keras.saving.register_keras_serializable(package="bert4keras3")
class DotProductAttention(keras.layers.Layer):
    """`O = (c * normalize(t * (s * Q K^T + p + bias), mask)) V`, the attention core.

    `s` is `1 / sqrt(H)` (or 1, or what `query_key_norm` makes of it), `t` the
    normalizer's temperature, which depends on how many keys the row can see, `p` the
    position bias and `c` the position weighting. Logits, masking and normalizer
    run in float32 whatever the compute dtype. A key is hidden by a large finite
    negative logit, never by -inf, and a row that sees no key gives zeros. Time and
    memory grow with `T * S`, or, with a window, with `T` times the window.

    Args:
        normalizer: name, config or instance, see `attention_normalizer`.
        rotary_embedding: name, config or instance, see `rotary_embedding`; `None` for
            no positions.
        use_scale: divide the products by `sqrt(H)`.
        dropout: rate applied to the attention weights.
        position_bias: name, config or instance, see `attention_bias`; `None` for none.
        query_key_norm: name, config or instance, see `query_key_norm`: what takes the
            place of the division by `sqrt(H)`; `None` for none.
        position_weighting: name, config or instance, see `position_weighting`: factors
            of the normalized weights; `None` for none.
        window: a `LocalMask` or the size of a window, computed in blocks; `None` for
            all keys.

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
        return_weights: also return the weights (before dropout, after the position
            weighting).

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
        query_key_norm=None,
        position_weighting=None,
        window=None,
        **kwargs,
    ):
        # Biases and positions must reach call() in their own precision.
        super().__init__(autocast=False, **kwargs)
        self.normalizer = attention_normalizer.get(normalizer)
        self.rotary_embedding = rotary_embeddings.get(
            rotary_embedding, self.dtype_policy
        )
        self.use_scale = use_scale
        self.dropout = dropout
        self.dropout_layer = Dropout(dropout, dtype=self.dtype_policy)
        self.position_bias = position_biases.get(position_bias, self.dtype_policy)
        self.query_key_norm = query_key_norms.get(query_key_norm)
        self.position_weighting = position_weightings.get(
            position_weighting, self.dtype_policy
        )
        self.window = attention_masks.get_window(window)

    def build(self, query_shape, key_shape=None, value_shape=None):
        # A scheme is shared if the same instance was given to other layers as well.
        with initializers_kept():
            for scheme in self.schemes:
                if not scheme.built:
                    scheme.build(query_shape, value_shape)

    @property
    def schemes(self):
        """The parts that may have weights of their own, which no release holds."""
        parts = (self.rotary_embedding, self.position_bias, self.position_weighting)
        return [part for part in parts if part is not None]

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
        options = {"return_logits": return_logits, "return_weights": return_weights}
        if self.window is None:
            return self.attend(
                query,
                key,
                value,
                attention_mask,
                query_positions,
                key_positions,
                attention_bias=attention_bias,
                training=training,
                **options,
            )
        if attention_bias is not None or return_logits or return_weights:
            raise ValueError(
                "Window attention computes no T x S matrix, so it takes no "
                "`attention_bias` and returns neither logits nor weights. Pass the "
                "window as an `attention_mask` to an attention without `window`."
            )
        return attend_in_blocks(
            functools.partial(self.attend, training=training),
            self.window,
            query,
            key,
            value,
            attention_mask,
            query_positions,
            key_positions,
            self.rotary_embedding is not None and self.rotary_embedding.follows_length,
        )

    def attend(
        self,
        query,
        key,
        value,
        attention_mask=None,
        query_positions=None,
        key_positions=None,
        attention_bias=None,
        return_logits=False,
        return_weights=False,
        training=None,
        **of_row,
    ):
        """Full attention over the keys given, without the window; see `call`.

        `of_row` is what a rotary embedding that follows the length must know of the
        row, where the keys are a block of it.
        """
        num_keys = count_visible_keys(attention_mask, ops.shape(key)[-2])
        temperature = self.normalizer.temperature(num_keys)
        logits = self.logits(
            query, key, num_keys, query_positions, key_positions, **of_row
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
        if self.position_weighting is not None:
            weights = self.position_weighting.weigh(
                weights, query_positions, key_positions
            )

        dropped = self.dropout_layer(ops.cast(weights, value.dtype), training=training)
        if self.position_bias is None:
            context = ops.matmul(dropped, value)
        else:
            context = self.position_bias.context(
                dropped, value, query_positions, key_positions
            )
        extras = [scaled_products] * return_logits + [weights] * return_weights
        return (context, *extras) if extras else context

    def logits(self, query, key, num_keys, query_positions, key_positions, **of_row):
        """Scaled products with the position bias, float32 `(B, N, T, S)`."""
        scheme = self.position_bias
        content = query if scheme is None else scheme.content_query(query)
        scaled, scaled_key = self.scaled(content, key, num_keys)
        products = self.scores(
            scaled, scaled_key, query_positions, key_positions, **of_row
        )
        products = ops.cast(products, "float32")
        if scheme is None:
            return products
        asking = scheme.position_query(query)
        if asking is not content:
            scaled, _ = self.scaled(asking, key, num_keys)
        return products + scheme.bias(
            scaled, ops.shape(key)[-2], query_positions, key_positions
        )

    def scaled(self, query, key, num_keys):
        """The query and the key whose product is the logit, but for positions."""
        if self.query_key_norm is not None:
            return self.query_key_norm(query, key, num_keys)
        if self.use_scale:
            # Before the product, which float16 could not hold otherwise.
            query = query * (1.0 / math.sqrt(query.shape[-1]))
        return query, key

    def check_key_dim(self, key_dim):
        """Refuse a key size that the positions cannot use, before anything runs.

        Raises:
            ValueError: odd size with a rotary embedding.
        """
        if self.rotary_embedding is not None:
            self.rotary_embedding.frequencies(key_dim)

    def scores(self, query, key, query_positions, key_positions, **of_row):
        if self.rotary_embedding is None:
            return ops.matmul(query, ops.swapaxes(key, -1, -2))
        return self.rotary_embedding.scores(
            query, key, query_positions, key_positions, **of_row
        )

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
            "query_key_norm": query_key_norms.serialize(self.query_key_norm),
            "position_weighting": position_weightings.serialize(
                self.position_weighting
            ),
            "window": attention_masks.serialize(self.window),
        }

    def shared_config(self):
        """The arguments that the layers around this one hand on to it."""
        config = self.get_config()
        return {name: config[name] for name in SHARED_ARGUMENTS}
