"""Gated attention unit, in its self and its cross form."""

import keras
from keras import ops

from bert4keras3.layers import activation as activations
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.initializer import fresh
from bert4keras3.layers.normalization import ScaleOffset
from bert4keras3.layers.recompute import recomputed
from bert4keras3.ops import merge_masks


class GatedAttention(keras.layers.Layer):
    """What the self and the cross form share: arguments, attention and output.

    Args:
        intermediate_dim: width `e` of gate and value.
        key_dim: width `s` of query and key.
        activation: activation of every input projection.
        normalizer: name, config or instance, see `attention_normalizer`.
        rotary_embedding: name, config or instance, or `None`.
        use_bias: add biases (and offsets to query and key).
        use_scale: divide the products by `sqrt(s)`.
        dropout: rate applied to the attention weights.
        kernel_initializer: initializer of all kernels.
        position_bias: name, config or instance, see `attention_bias`; or `None`.
        query_key_norm: name, config or instance, see `query_key_norm`; or `None`.
        position_weighting: name, config or instance, see `position_weighting`; or
            `None`.
        window: a `LocalMask` or the size of a window, computed in blocks (see
            `window_attention`); the layer then takes no `attention_mask` beside the
            padding. `None` for all keys.
    """

    def __init__(
        self,
        intermediate_dim,
        key_dim=128,
        activation="silu",
        normalizer="squared_relu",
        rotary_embedding=None,
        use_bias=True,
        use_scale=True,
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        position_bias=None,
        query_key_norm=None,
        position_weighting=None,
        window=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.intermediate_dim = intermediate_dim
        self.key_dim = key_dim
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
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

    def _dense(self, units, name):
        # Without the activation: what comes before it is what is kept, not both.
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def build_attention(self):
        key_shape = (None, 1, None, self.key_dim)
        value_shape = (None, 1, None, self.intermediate_dim)
        self.attention.build(key_shape, key_shape, value_shape)

    def attend(self, gate, query, key, value, attention_mask, **options):
        """`W_o (f(gate) * A f(value))` for one head, from `(B, L, ...)` tensors."""
        gate, value = self.activation(gate), self.activation(value)
        attended = self.attention(
            *(ops.expand_dims(tensor, 1) for tensor in (query, key, value)),
            attention_mask=attention_mask,
            **options,
        )
        return self.output_dense(gate * ops.squeeze(attended, 1))

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "key_dim": self.key_dim,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            **self.attention.shared_config(),
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class GatedAttentionUnit(GatedAttention):
    """Gated attention unit, GAU: attention and gated linear unit in one layer.

    `O = (U * (A V)) W_o` with `U = f(X W_u)`, `V = f(X W_v)`, `Z = f(X W_z)`,
    `Q = Z * g_q + b_q`, `K = Z * g_k + b_k` and
    `A = normalize(rope(Q) rope(K)^T / sqrt(s))`. One head. The offsets exist only with
    `use_bias`. Two such layers cost about as much as attention plus feed-forward when
    `e = 2 d`.

    Sources: https://arxiv.org/abs/2202.10447, https://kexue.fm/archives/8934 and 9052.
    The released checkpoints keep `W_u | W_v | W_z` side by side in one matrix; here
    they are three kernels, so that a model-parallel layout can split each of them.

    Args: see `GatedAttention`.

    Call arguments:
        x: `(B, T, D)`.
        padding_mask: `(B, T)`, true or 1 where there is a token. Padding is hidden as
            a key and does not count in the normalizer.
        attention_mask: `(T, T)`, `(B, T, T)` or `(B, 1, T, T)`, true where the query
            may attend; combined with `padding_mask`.
        attention_bias: float, of the shapes of `attention_mask`, added to the scaled
            logits.
        positions: `(T,)` or `(B, T)`, `None` for `0 .. T-1`.

    Returns:
        `(B, T, D)`.

    Example:

    >>> gau = GatedAttentionUnit(32, key_dim=8, rotary_embedding="rope")
    >>> tuple(gau(np.ones((2, 5, 16), "float32")).shape)
    (2, 5, 16)
    """

    # See `Backbone.enable_recompute`.
    recomputable = ("attention", "layer")
    recompute = None

    def build(self, input_shape):
        self.attention.check_key_dim(self.key_dim)
        self.gate_dense = self._dense(self.intermediate_dim, "gate_dense")
        self.value_dense = self._dense(self.intermediate_dim, "value_dense")
        self.shared_dense = self._dense(self.key_dim, "shared_dense")
        for dense in (self.gate_dense, self.value_dense, self.shared_dense):
            dense.build(input_shape)
        self.query_scale = self._scale_offset("query_scale")
        self.key_scale = self._scale_offset("key_scale")
        self.output_dense = self._dense(input_shape[-1], "output_dense")
        self.output_dense.build((*input_shape[:-1], self.intermediate_dim))
        self.build_attention()

    def _scale_offset(self, name):
        layer = ScaleOffset(
            use_offset=self.use_bias, dtype=self.dtype_policy, name=name
        )
        layer.build((None, None, self.key_dim))
        return layer

    def call(
        self,
        x,
        padding_mask=None,
        attention_mask=None,
        attention_bias=None,
        positions=None,
        training=None,
    ):
        return recomputed(
            self.project,
            self.recompute == "layer",
            self.dropouts,
            training,
            x=ops.cast(x, self.compute_dtype),
            mask=merge_masks(padding_mask, attention_mask),
            bias=attention_bias,
            positions=positions,
        )

    @property
    def dropouts(self):
        return [self.attention.dropout_layer]

    def project(self, x, mask, bias, positions, training):
        """The whole layer, its mask merged."""
        return recomputed(
            self.attend_to_self,
            self.recompute == "attention",
            self.dropouts,
            training,
            gate=self.gate_dense(x),
            value=self.value_dense(x),
            shared=self.shared_dense(x),
            mask=mask,
            bias=bias,
            positions=positions,
        )

    def attend_to_self(self, gate, value, shared, mask, bias, positions, training):
        """What follows the three projections; they come without their activation."""
        shared = self.activation(shared)
        return self.attend(
            gate,
            self.query_scale(shared),
            self.key_scale(shared),
            value,
            mask,
            attention_bias=bias,
            query_positions=positions,
            key_positions=positions,
            training=training,
        )

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="bert4keras3")
class CrossGatedAttentionUnit(GatedAttention):
    """Gated attention unit over another sequence.

    `O = (U * (A V)) W_o` with `U = f(X W_u)`, `Q = f(X W_q)` from the query sequence,
    `K = f(Y W_k)` and `V = f(Y' W_v)` from the key and value sequences; no scale and
    offset. bert4keras's `GatedAttentionUnit(self_attention=False)`, with one repair:
    keys are hidden by the *key* padding mask, where the original used the query's.

    Args: see `GatedAttention`.

    Call arguments:
        query: `(B, T, D)`.
        key: `(B, S, D_k)`.
        value: `(B, S, D_v)`, by default the key.
        padding_mask: `(B, S)`, true or 1 where the *key* is a token.
        attention_mask: `(T, S)`, `(B, T, S)` or `(B, 1, T, S)`.
        attention_bias: float, of the shapes of `attention_mask`.
        query_positions, key_positions: as `positions` of `GatedAttentionUnit`.

    Returns:
        `(B, T, D)`.
    """

    def build(self, query_shape, key_shape, value_shape=None):
        self.attention.check_key_dim(self.key_dim)
        value_shape = value_shape or key_shape
        self.gate_dense = self._dense(self.intermediate_dim, "gate_dense")
        self.query_dense = self._dense(self.key_dim, "query_dense")
        self.key_dense = self._dense(self.key_dim, "key_dense")
        self.value_dense = self._dense(self.intermediate_dim, "value_dense")
        self.gate_dense.build(query_shape)
        self.query_dense.build(query_shape)
        self.key_dense.build(key_shape)
        self.value_dense.build(value_shape)
        self.output_dense = self._dense(query_shape[-1], "output_dense")
        self.output_dense.build((*query_shape[:-1], self.intermediate_dim))
        self.build_attention()

    def call(
        self,
        query,
        key,
        value=None,
        padding_mask=None,
        attention_mask=None,
        attention_bias=None,
        query_positions=None,
        key_positions=None,
        training=None,
    ):
        query = ops.cast(query, self.compute_dtype)
        key = ops.cast(key, self.compute_dtype)
        value = key if value is None else ops.cast(value, self.compute_dtype)
        return self.attend(
            self.gate_dense(query),
            self.activation(self.query_dense(query)),
            self.activation(self.key_dense(key)),
            self.value_dense(value),
            merge_masks(padding_mask, attention_mask),
            attention_bias=attention_bias,
            query_positions=query_positions,
            key_positions=key_positions,
            training=training,
        )

    def compute_output_shape(self, query_shape, key_shape, value_shape=None):
        return query_shape
