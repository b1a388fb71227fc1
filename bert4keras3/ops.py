"""Pure functions on tensors, shared by the layers.

Letters used in shapes: `B` batch, `N` heads, `T` query length, `S` key length,
`H` size of a query or key vector, `E` size of a value vector.

Angles, positions, key counts and `log n` are float32 whatever the dtype of the
model: bfloat16 counts exactly only up to 256, so a position or a key count kept in
the compute dtype would be wrong in every longer text.
"""

import math

import numpy as np
from keras import ops

# Large enough that exp() of it is 0 in float32, small enough to stay finite.
MASKED_LOGIT = -1e9
# Of `rotation_angles`: 8 bits of a position times 13 bits of a turn are exact.
POSITION_BLOCK = 256.0
COARSE_STEPS = 2.0**13


def inverse_frequencies(dim, max_wavelength=10000.0):
    """RoPE's frequencies `theta_i = max_wavelength ** (-2 i / dim)`.

    Args:
        dim: even integer, size of the rotated vectors.
        max_wavelength: float, the base of the geometric series.

    Returns:
        float64 NumPy array of shape `(dim / 2,)`: a position multiplies its errors.

    Raises:
        ValueError: `dim` is odd or not positive.
    """
    if dim <= 0 or dim % 2:
        raise ValueError(
            "Rotary and sinusoidal embeddings work on pairs of features, so they need "
            f"an even, positive dimension. Received dim={dim}. Choose an even size."
        )
    exponents = np.arange(0, dim, 2, dtype="float64") / dim
    return float(max_wavelength) ** -exponents


def places_or_given(length, positions=None):
    """The positions of a row: those given, or its places `0 .. length - 1`.

    Args:
        length: how many places the row has.
        positions: integer or float tensor, or `None`.

    Returns:
        float32 tensor of the shape of `positions`, or `(length,)`.

    Example:

    >>> tuple(places_or_given(3).shape), tuple(places_or_given(3, [[5, 6, 7]]).shape)
    ((3,), (1, 3))
    """
    if positions is None:
        return ops.arange(length, dtype="float32")
    return ops.cast(positions, "float32")


def rotation_angles(positions, frequencies):
    """Angles `positions * frequencies`, less whole turns, in float32.

    A float32 product at position 16384 is off by 5e-4, and two of them make neighbours
    off by twice that. So a position is cut into `256 a + b + c`, `a` and `b` whole, and
    the turn of each into a coarse share, whose products with `a` or `b` are exact, and
    a small rest. Whole turns are dropped. The error is about 1e-6, up to positions of
    `2 ** 20`.

    Args:
        positions: integer or float tensor of shape `(...,)`.
        frequencies: float64 array of shape `(dim / 2,)`, known before the call. With
            fewer bits the angles are those of the rounded frequencies.

    Returns:
        float32 tensor of shape `(..., dim / 2)`; sine and cosine are those of the
        product.

    Example:

    >>> round(float(rotation_angles(np.array([2]), [0.25])[0, 0]), 4)
    0.5
    """
    turns = np.asarray(frequencies, "float64") / (2 * math.pi)
    positions = ops.expand_dims(ops.cast(positions, "float32"), -1)
    whole = ops.round(positions)
    blocks = ops.round(whole / POSITION_BLOCK)
    total = (positions - whole) * ops.convert_to_tensor(turns, dtype="float32")
    for count, turn in (
        (whole - POSITION_BLOCK * blocks, turns),
        (blocks, POSITION_BLOCK * turns),
    ):
        turn = turn - np.round(turn)  # of a whole number of times it
        coarse = np.round(turn * COARSE_STEPS) / COARSE_STEPS
        product = count * ops.convert_to_tensor(coarse, dtype="float32")
        rest = count * ops.convert_to_tensor(turn - coarse, dtype="float32")
        total = total + (product - ops.round(product)) + rest
    return (2 * math.pi) * total


def sinusoidal_embedding(positions, dim, max_wavelength=10000.0):
    """Absolute positions as sines and cosines, `(sin, cos)` pair by pair.

    `e[2i] = sin(p * max_wavelength ** (-2 i / dim))`, `e[2i+1]` the cosine. Source:
    https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
        positions: integer or float tensor of shape `(...,)`.
        dim: even integer, size of the vectors.
        max_wavelength: float, the base of the geometric series.

    Returns:
        float32 tensor of shape `(..., dim)`.

    Raises:
        ValueError: `dim` is odd or not positive.
    """
    angles = rotation_angles(positions, inverse_frequencies(dim, max_wavelength))
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(pairs, (*ops.shape(angles)[:-1], dim))


def take_rows(table, ids):
    """Rows of a trained table, `table[ids]`, with a gradient that is a whole array.

    TensorFlow's own gradient of a lookup lists one row for each id. Keras's optimizers
    (3.15) square these rows one by one, where Adam's formula squares their sum: a row
    looked up `n` times in a batch takes a step up to `sqrt(n)` times too large, and the
    norm that clips is wrong as well. JAX and PyTorch sum; so does this.

    Args:
        table: float tensor or variable, `(rows, ...)`.
        ids: int32 tensor of any shape.

    Returns:
        Tensor of the shape of `ids`, followed by that of a row.

    Example:

    >>> take_rows(np.array([[1.0], [2.0]]), np.array([1, 1, 0])).shape[0]
    3
    """
    # The gradient of a product is dense; compilers leave the product itself out.
    return ops.take(ops.multiply(table, 1), ids, axis=0)


def rotate_interleaved(x, angles):
    """Rotate the pairs `(x[2i], x[2i+1])` by `angles[i]`.

    The layout of RoFormer (https://arxiv.org/abs/2104.09864, equation 15) and of all
    released RoFormer, RoFormerV2 and GAU-α weights.

    Args:
        x: tensor of shape `(..., dim)`.
        angles: float32 tensor of shape `(..., dim / 2)` that broadcasts to `x`.

    Returns:
        Tensor of the shape and dtype of `x`; the products are taken in float32.
    """
    dtype = x.dtype
    dim = x.shape[-1]
    x = ops.cast(x, "float32")
    x = ops.reshape(x, (*ops.shape(x)[:-1], dim // 2, 2))
    even, odd = x[..., 0], x[..., 1]
    cos, sin = ops.cos(angles), ops.sin(angles)
    rotated = ops.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    rotated = ops.reshape(rotated, (*ops.shape(rotated)[:-2], dim))
    return ops.cast(rotated, dtype)


def rotate_half_split(x, angles):
    """Rotate the pairs `(x[i], x[i + dim/2])` by `angles[i]`.

    The layout of GPT-NeoX and Llama code. It equals `rotate_interleaved` up to a fixed
    permutation of the features; weights trained in one layout are wrong in the other.

    Args:
        x: tensor of shape `(..., dim)`.
        angles: float32 tensor of shape `(..., dim / 2)` that broadcasts to `x`.

    Returns:
        Tensor of the shape and dtype of `x`; the products are taken in float32.
    """
    dtype = x.dtype
    half = x.shape[-1] // 2
    x = ops.cast(x, "float32")
    first, second = x[..., :half], x[..., half:]
    cos, sin = ops.cos(angles), ops.sin(angles)
    rotated = ops.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    )
    return ops.cast(rotated, dtype)


def log_length_scale(num_keys, base_length=512, min_length=16):
    """Length scale `ln(max(n, min_length)) / ln(base_length)`.

    Multiplying attention logits by it keeps the entropy of a peaked attention nearly
    independent of the number `n` of keys; it is 1 at `n = base_length`.
    Source: https://kexue.fm/archives/8823 and 9034; the floor is bert4keras 0.11.5's.

    Args:
        num_keys: tensor, how many keys each row can see.
        base_length: length at which the scale is 1.
        min_length: floor of `n`; 1 means none (GAU-α was released without it).

    Returns:
        float32 tensor of the shape of `num_keys`.
    """
    num_keys = ops.cast(num_keys, "float32")
    return ops.log(ops.maximum(num_keys, float(min_length))) / math.log(base_length)


def with_head_axis(x, name):
    """Make a `(T, S)` or `(B, T, S)` tensor broadcast to `(B, N, T, S)`.

    Left to itself, broadcasting would read the batch of a `(B, T, S)` tensor as heads.

    Args:
        x: tensor of rank 2, 3 or 4.
        name: what the tensor is called in the error text.

    Returns:
        Tensor of rank 4.

    Raises:
        ValueError: `x` has another rank.
    """
    rank = len(x.shape)
    if rank not in (2, 3, 4):
        raise ValueError(
            f"`{name}` must have shape (T, S), (B, T, S) or (B, N, T, S). "
            f"Received shape {tuple(x.shape)}."
        )
    if rank == 4:
        return x
    return ops.expand_dims(x, (0, 1) if rank == 2 else 1)


def merge_masks(padding_mask=None, attention_mask=None):
    """Combine a key padding mask and a structural mask into one.

    Args:
        padding_mask: `(B, S)`, true or 1 where the key is a token; or `None`.
        attention_mask: `(T, S)`, `(B, T, S)` or `(B, N, T, S)`, true where the query
            may attend to the key; or `None`.

    Returns:
        Boolean tensor that broadcasts to `(B, N, T, S)`, or `None` if both are `None`.

    Raises:
        ValueError: a mask has another rank.
    """
    merged = None
    if attention_mask is not None:
        merged = ops.cast(with_head_axis(attention_mask, "attention_mask"), "bool")
    if padding_mask is not None:
        if len(padding_mask.shape) != 2:
            raise ValueError(
                "`padding_mask` must have shape (B, S), true where the key is a token. "
                f"Received shape {tuple(padding_mask.shape)}."
            )
        keys = ops.expand_dims(ops.cast(padding_mask, "bool"), (1, 2))
        merged = keys if merged is None else ops.logical_and(merged, keys)
    return merged


def count_visible_keys(mask, key_length):
    """How many keys each query row can see.

    Args:
        mask: boolean tensor that broadcasts to `(B, N, T, S)`, or `None`.
        key_length: `S`, used when there is no mask.

    Returns:
        float32 tensor shaped like `mask` with a last axis of 1, or a float32 scalar.
    """
    if mask is None:
        return ops.cast(key_length, "float32")
    return ops.sum(ops.cast(mask, "float32"), axis=-1, keepdims=True)


def standardize(x, zero_mean=True, unit_variance=True, epsilon=1e-7):
    """`(x - mean) / sqrt(mean((x - mean)^2) + epsilon)` over the last axis, in float32.

    Args:
        x: tensor of shape `(..., dim)`.
        zero_mean: subtract the mean; without it the result is the RMS norm.
        unit_variance: divide by the root of the (biased) mean square.
        epsilon: float added to the mean square.

    Returns:
        float32 tensor of the shape of `x`.
    """
    x = ops.cast(x, "float32")
    if zero_mean:
        x = x - ops.mean(x, axis=-1, keepdims=True)
    if unit_variance:
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon)
    return x
