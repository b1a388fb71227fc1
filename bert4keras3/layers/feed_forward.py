"""Feed-forward layer, plain and gated."""

import keras
from keras import ops

from bert4keras3.layers import activation as activations
from bert4keras3.layers.initializer import fresh


@keras.saving.register_keras_serializable(package="bert4keras3")
class FeedForward(keras.layers.Layer):
    """`y = (f_1(x W_1) * f_2(x W_2) * ...) W_o`.

    One activation gives the plain layer `f(x W_1) W_o`, with `"squared_relu"` that of
    Primer (https://arxiv.org/abs/2109.08668); several give the gated forms of
    https://arxiv.org/abs/2002.05202, for example `("gelu", "linear")` for GEGLU.

    Args:
        intermediate_dim: width between the two projections.
        activation: an activation, see `activation`, or a list of them.
        use_bias: add biases.
        kernel_initializer: initializer of all kernels.

    Call arguments:
        x: tensor of shape `(..., dim)`.

    Returns:
        Tensor of the shape of `x`.

    Example:

    >>> tuple(FeedForward(8, ["gelu", "linear"])(np.ones((2, 3, 4))).shape)
    (2, 3, 4)
    """

    def __init__(
        self,
        intermediate_dim,
        activation="relu",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        self.activations = activations.get_all(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.intermediate_dense = self._dense(
            self.intermediate_dim, "intermediate_dense", self.activations[0]
        )
        self.gate_dense = [
            self._dense(self.intermediate_dim, f"gate_dense_{i}", activation)
            for i, activation in enumerate(self.activations[1:], start=1)
        ]
        for dense in [self.intermediate_dense, *self.gate_dense]:
            dense.build(input_shape)
        self.output_dense = self._dense(input_shape[-1], "output_dense")
        self.output_dense.build((*input_shape[:-1], self.intermediate_dim))

    def _dense(self, units, name, activation=None):
        return keras.layers.Dense(
            units,
            activation=activation,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, x):
        hidden = self.intermediate_dense(x)
        for gate in self.gate_dense:
            hidden = ops.multiply(hidden, gate(x))
        return self.output_dense(hidden)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": activations.serialize(self.activations),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
