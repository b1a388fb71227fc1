"""The gradient of a function at tensors, on each backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["value_and_gradients"]


def value_and_gradients(
    function: Callable[[list[Any]], tuple[Any, Any]],
    tensors: Sequence[Any],
    second_order: bool = False,
) -> tuple[Any, Any, list[Any]]:
    """Value of a function and its gradient with respect to each of its tensors.

    Works while a training step is traced too. What the function changes beside its
    values must go out as its second result: what JAX makes inside a gradient must not
    live on.

    Args:
        function: takes a list of tensors; gives a scalar and any nested tensors.
        tensors: where the gradient is taken, of any float dtype.
        second_order: whether the gradients may be differentiated again.

    Returns:
        The scalar, the nested tensors, and a list of gradients like `tensors`, zeros
        where one has no influence.

    Example:

    >>> point = keras.ops.convert_to_tensor([1.0, 2.0])
    >>> square = lambda tensors: (keras.ops.sum(tensors[0] ** 2), None)
    >>> value, _, (gradient,) = value_and_gradients(square, [point])
    >>> float(value), np.asarray(gradient).tolist()
    (5.0, [2.0, 4.0])
    """
    differentiate = _BACKENDS[keras.backend.backend()]
    return differentiate(
        function, [ops.convert_to_tensor(each) for each in tensors], second_order
    )


def _jax(function: Any, tensors: list[Any], second_order: bool) -> Any:
    import jax

    (value, aux), found = jax.value_and_grad(function, has_aux=True)(tensors)
    return value, aux, found


def _tensorflow(function: Any, tensors: list[Any], second_order: bool) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value, aux = function(tensors)
    found = tape.gradient(
        value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # A lookup gives rows, some of them twice.
    return value, aux, [tf.convert_to_tensor(each) for each in found]


def _torch(function: Any, tensors: list[Any], second_order: bool) -> Any:
    import torch

    tensors = [
        each if second_order and each.requires_grad else each.detach().requires_grad_()
        for each in tensors
    ]
    with torch.enable_grad():
        value, aux = function(tensors)
    if not value.requires_grad:
        return value, aux, [torch.zeros_like(each) for each in tensors]
    found = torch.autograd.grad(
        value, tensors, create_graph=second_order, allow_unused=True
    )
    return (
        value,
        aux,
        [
            torch.zeros_like(tensor) if each is None else each
            for tensor, each in zip(tensors, found, strict=True)
        ],
    )


_BACKENDS = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
