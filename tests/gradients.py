"""Gradients with respect to inputs, the same call on every backend."""

import keras
import numpy as np


def gradient(function, *arrays):
    """Float32 gradients of `function(*tensors)`, summed up, at float32 `arrays`."""
    arrays = [np.asarray(array, "float32") for array in arrays]

    def total(*tensors):
        return keras.ops.sum(keras.ops.cast(function(*tensors), "float32"))

    return [
        np.asarray(each) for each in _BACKENDS[keras.backend.backend()](total, arrays)
    ]


def _tensorflow(total, arrays):
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        result = total(*tensors)
    return tape.gradient(result, tensors)


def _jax(total, arrays):
    import jax

    return jax.jit(jax.grad(total, argnums=tuple(range(len(arrays)))))(*arrays)


def _torch(total, arrays):
    import torch

    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
    return torch.autograd.grad(total(*tensors), tensors)


def compiled(function):
    """`function` of arrays, compiled on JAX, which compiles every operation by itself
    otherwise; what the function closes over must not change any more."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
