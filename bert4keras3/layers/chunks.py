"""Rows cut into chunks, and sums over the chunks: what linear-time attention shares."""

import math

from keras import ops


def real_places(padding_mask, x):
    """Boolean `(B, T, 1)`, true where there is a token.

    Args:
        padding_mask: `(B, T)`, true or 1 where there is a token; `None` for all.
        x: `(B, T, D)`.

    Raises:
        ValueError: the mask has another rank.
    """
    if padding_mask is None:
        return ops.ones((*ops.shape(x)[:2], 1), dtype="bool")
    if len(padding_mask.shape) != 2:
        raise ValueError(
            "`padding_mask` must have shape (B, T), true where there is a token. "
            f"Received shape {tuple(padding_mask.shape)}."
        )
    return ops.expand_dims(ops.cast(padding_mask, "bool"), -1)


def into_chunks(x, size):
    """`(B, ..., T, H)` to `(B, ..., chunks, size, H)`, with zeros after the last place.

    Args:
        x: tensor of rank 3 or 4.
        size: positive integer. Chunks are never longer than a known `T`.

    Returns:
        Tensor of one rank more; `chunks` is `T / size` rounded up.
    """
    *outer, length, dim = ops.shape(x)
    if isinstance(length, int):
        size = max(min(size, length), 1)
    count = (length + size - 1) // size
    surplus = count * size - length
    if not isinstance(surplus, int) or surplus > 0:
        zeros = ops.zeros((*outer, surplus, dim), dtype=x.dtype)
        x = ops.concatenate([x, zeros], axis=-2)
    return ops.reshape(x, (*outer, count, size, dim))


def out_of_chunks(x, length):
    """`(B, ..., chunks, size, H)` back to `(B, ..., T, H)`; undoes `into_chunks`."""
    *outer, count, size, dim = ops.shape(x)
    return ops.reshape(x, (*outer, count * size, dim))[..., :length, :]


def sum_of_earlier(x, axis):
    """Sum over the places before each one; zero for the first.

    Nothing is subtracted, so that not even a rounding error comes from what follows.

    Args:
        x: tensor.
        axis: the axis of the chunks, counted from the end (negative).
    """
    shape = list(ops.shape(x))
    shape[axis] = 1
    before = (Ellipsis, slice(None, -1), *(slice(None),) * (-axis - 1))
    sums = ops.cumsum(x, axis=len(shape) + axis)[before]
    return ops.concatenate([ops.zeros(shape, dtype=x.dtype), sums], axis=axis)


def causal_places(size):
    """Boolean `(size, size)`, true where the key is not after the query."""
    places = ops.arange(size)
    return ops.expand_dims(places, 1) >= ops.expand_dims(places, 0)


def attend_across_chunks(query, key, value, real, chunk_size, causal):
    """`Q (sum_h K_h^T V_h) / n`, over all chunks `h`, or over those before, if causal.

    `n` counts the tokens that are summed. Sums over chunks are float32; time and
    memory are linear in the length.

    Args:
        query, key: `(B, ..., T, H)`; keys are zero where there is no token.
        value: `(B, ..., T, E)`, zero where there is no token.
        real: `(B, ..., T, 1)`, true or 1 where there is a token; axes before `T` may
            be 1.
        chunk_size: places of a chunk; matters only if causal.
        causal: leave out the query's own chunk and all later ones.

    Returns:
        `(B, ..., T, E)` in the dtype of the query.
    """
    length = ops.shape(query)[-2]
    real = ops.cast(real, "float32")
    if not causal:
        root = ops.sqrt(ops.maximum(ops.sum(real, axis=-2, keepdims=True), 1.0))
        mean = _products_of_parts(key, value, root)
        return ops.matmul(query, ops.cast(mean, query.dtype))
    query, key, value, real = (
        into_chunks(tensor, chunk_size) for tensor in (query, key, value, real)
    )
    size = ops.shape(key)[-2]
    sums = _products_of_parts(key, value, math.sqrt(size)) * size
    count = sum_of_earlier(ops.sum(real, axis=-2, keepdims=True), axis=-3)
    mean = sum_of_earlier(sums, axis=-3) / ops.maximum(count, 1.0)
    return out_of_chunks(ops.matmul(query, ops.cast(mean, query.dtype)), length)


def _products_of_parts(key, value, root):
    """`(K / root)^T (V / root)`, float32: in float16 neither factor nor sum overflows.

    The operands keep their dtype: a float32 product takes many times as long on
    accelerators, which sum in float32 anyway.
    """
    key, value = (
        ops.cast(ops.cast(tensor, "float32") / root, tensor.dtype)
        for tensor in (key, value)
    )
    return ops.cast(ops.matmul(ops.swapaxes(key, -1, -2), value), "float32")
