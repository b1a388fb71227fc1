"""Norms and per-feature scaling that Keras lacks."""

import keras
from keras import ops

from bert4keras3.naming import lookup
from bert4keras3.ops import standardize


@keras.saving.register_keras_serializable(package="bert4keras3")
class ScaleOffset(keras.layers.Layer):
    """`y = x * scale + offset` per feature.

    Turns the shared vector of a gated attention unit into query and key
    (https://arxiv.org/abs/2202.10447, section 3).

    Args:
        use_scale: learn `scale`.
        use_offset: learn `offset`, initialised to zero.
        scale_initializer: initializer of `scale`.

    Call arguments:
        x: tensor of shape `(..., dim)`.
    """

    def __init__(
        self, use_scale=True, use_offset=True, scale_initializer="ones", **kwargs
    ):
        super().__init__(**kwargs)
        self.use_scale = use_scale
        self.use_offset = use_offset
        self.scale_initializer = keras.initializers.get(scale_initializer)

    def build(self, input_shape):
        dim = input_shape[-1]
        if self.use_scale:
            self.scale = self.add_weight(
                name="scale", shape=(dim,), initializer=self.scale_initializer
            )
        if self.use_offset:
            self.offset = self.add_weight(
                name="offset", shape=(dim,), initializer="zeros"
            )

    def call(self, x):
        if self.use_scale:
            x = x * ops.cast(self.scale, x.dtype)
        if self.use_offset:
            x = x + ops.cast(self.offset, x.dtype)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "use_scale": self.use_scale,
            "use_offset": self.use_offset,
            "scale_initializer": keras.initializers.serialize(self.scale_initializer),
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class ConditionalScaleOffset(keras.layers.Layer):
    """`y = x * (scale + A h) + (offset + B h)`, where `h = activation(W c)`.

    The condition `c` shifts the learned scale and offset; `A` and `B` start at zero, so
    a trained model keeps its outputs until the condition has been learned. Source:
    https://kexue.fm/archives/7124.

    Args:
        use_scale, use_offset: which of the two to learn and to condition.
        hidden_dim: size of `h`; `None` uses the condition itself.
        activation: activation of `h`, used when `hidden_dim` is set.

    Call arguments:
        x: tensor of shape `(B, ..., dim)`.
        condition: `(B, condition_dim)`, or of the rank of `x`.
    """

    def __init__(
        self,
        use_scale=True,
        use_offset=True,
        hidden_dim=None,
        activation=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.use_scale = use_scale
        self.use_offset = use_offset
        self.hidden_dim = hidden_dim
        self.activation = keras.activations.get(activation)

    def build(self, x_shape, condition_shape):
        dim = x_shape[-1]
        self.base = ScaleOffset(
            self.use_scale, self.use_offset, dtype=self.dtype_policy, name="base"
        )
        self.base.build(x_shape)
        self.hidden_dense = None
        if self.hidden_dim is not None:
            self.hidden_dense = self._dense(
                self.hidden_dim, "hidden_dense", "glorot_uniform", self.activation
            )
            self.hidden_dense.build(condition_shape)
            condition_shape = (*condition_shape[:-1], self.hidden_dim)
        if self.use_offset:
            self.offset_dense = self._dense(dim, "offset_dense", "zeros")
            self.offset_dense.build(condition_shape)
        if self.use_scale:
            self.scale_dense = self._dense(dim, "scale_dense", "zeros")
            self.scale_dense.build(condition_shape)

    def _dense(self, units, name, initializer, activation=None):
        return keras.layers.Dense(
            units,
            activation=activation,
            use_bias=False,
            kernel_initializer=initializer,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, x, condition):
        while len(condition.shape) < len(x.shape):
            condition = ops.expand_dims(condition, 1)
        if self.hidden_dense is not None:
            condition = self.hidden_dense(condition)
        y = self.base(x)
        if self.use_scale:
            y = y + x * self.scale_dense(condition)
        if self.use_offset:
            y = y + self.offset_dense(condition)
        return y

    def compute_output_shape(self, x_shape, condition_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "use_scale": self.use_scale,
            "use_offset": self.use_offset,
            "hidden_dim": self.hidden_dim,
            "activation": keras.activations.serialize(self.activation),
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class RMSNorm(keras.layers.Layer):
    """`y = x / sqrt(mean(x^2) + epsilon)`: no mean, and by default no weights.

    The norm of RoFormerV2 and GAU-α (https://kexue.fm/archives/8998), computed in
    float32. Keras's `RMSNormalization` always has a scale, which these models lack.

    Args:
        epsilon: added to the mean square.

    Call arguments:
        x: tensor of shape `(..., dim)`.

    Example:

    >>> y = RMSNorm()(np.array([[3.0, 4.0]], "float32"))
    >>> bool(np.allclose(np.mean(np.square(y)), 1.0))
    True
    """

    def __init__(self, epsilon=1e-7, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.built = True

    def call(self, x):
        y = standardize(x, zero_mean=False, epsilon=self.epsilon)
        return ops.cast(y, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="bert4keras3")
class ConditionalLayerNormalization(keras.layers.Layer):
    """Layer norm whose scale and offset depend on a condition vector.

    `y = N(x) * (scale + A h) + (offset + B h)`; see `ConditionalScaleOffset` for `h`.
    `N` is the layer norm without weights, or the RMS norm when `zero_mean=False`.
    Source: https://kexue.fm/archives/7124.

    Args:
        epsilon: added to the variance.
        zero_mean: subtract the mean.
        use_scale, use_offset, hidden_dim, activation: see `ConditionalScaleOffset`.

    Call arguments:
        x: tensor of shape `(B, ..., dim)`.
        condition: `(B, condition_dim)`.
    """

    def __init__(
        self,
        epsilon=1e-7,
        zero_mean=True,
        use_scale=True,
        use_offset=True,
        hidden_dim=None,
        activation=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.zero_mean = zero_mean
        self.scale_offset = ConditionalScaleOffset(
            use_scale,
            use_offset,
            hidden_dim,
            activation,
            dtype=self.dtype_policy,
            name="scale_offset",
        )

    def build(self, x_shape, condition_shape):
        self.scale_offset.build(x_shape, condition_shape)

    def call(self, x, condition):
        y = standardize(x, zero_mean=self.zero_mean, epsilon=self.epsilon)
        return self.scale_offset(ops.cast(y, x.dtype), condition)

    def compute_output_shape(self, x_shape, condition_shape):
        return x_shape

    def get_config(self):
        inner = self.scale_offset.get_config()
        shared = ("use_scale", "use_offset", "hidden_dim", "activation")
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "zero_mean": self.zero_mean,
            **{key: inner[key] for key in shared},
        }


NORMS = {
    "layer_norm": keras.layers.LayerNormalization,
    "rms_norm": RMSNorm,
}


def make(kind, **kwargs):
    """Return a new norm layer by name: `"layer_norm"` or `"rms_norm"`."""
    return lookup(kind, NORMS, "norm")(**kwargs)
