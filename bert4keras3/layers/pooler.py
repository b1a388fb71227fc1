"""Pooler: a dense layer on the first position."""

import keras

from bert4keras3.layers.initializer import fresh


@keras.saving.register_keras_serializable(package="bert4keras3")
class Pooler(keras.layers.Layer):
    """`y = f(x[:, 0] W + b)`, the vector that BERT trains as its sentence vector.

    BERT uses tanh; RoFormer-Sim, whose sentence vectors are these, uses no activation.

    Args:
        activation: `"tanh"`, `"linear"` or another Keras activation.
        kernel_initializer: initializer of the kernel.

    Call arguments:
        x: `(B, T, D)`.

    Returns:
        `(B, D)`.
    """

    def __init__(
        self, activation="tanh", kernel_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.dense = keras.layers.Dense(
            input_shape[-1],
            activation=self.activation,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.build((input_shape[0], input_shape[-1]))

    def call(self, x):
        return self.dense(x[:, 0])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
