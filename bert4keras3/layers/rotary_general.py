"""Rotary positions in general: two dimensions, and trained rotations of vectors."""

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.rotary_embedding import ROTARY_EMBEDDINGS, RotaryEmbedding
from bert4keras3.naming import check_at_least
from bert4keras3.ops import inverse_frequencies, rotation_angles

# Positions below 2 ** 15 = 32768; the fractions of a position go down to 2 ** -8.
INTEGER_BITS = 15
FRACTION_BITS = 8


@keras.saving.register_keras_serializable(package="bert4keras3")
class RotaryEmbedding2D(RotaryEmbedding):
    """RoPE in two dimensions, for pictures: half the pairs turn by `x`, half by `y`.

    `R_{x,y} = diag(R_x, R_y)`, with `theta_i = max_wavelength ** (-4 i / dim)` in each
    half, so that a product depends on `x_m - x_n` and `y_m - y_n`. Padding is hidden
    after the product; cost is that of `RotaryEmbedding`. It has no name in the table,
    as it needs positions or a width.

    Source: https://kexue.fm/archives/8397.

    Args:
        width: of a row of places, for default positions: place `p` is at
            `x = p mod width`, `y = floor(p / width)`. `None` asks for positions.
        **kwargs: see `RotaryEmbedding`.

    Call arguments:
        x: tensor `(B, L, dim)` or `(B, N, L, dim)`; `dim` is divisible by 4.
        positions: `(L, 2)` or `(B, L, 2)`, integer or float; or `None`.

    Raises:
        ValueError: `width` below 1; `dim` not divisible by 4; positions of another
            shape; no positions and no `width`.

    Example:

    >>> rope = RotaryEmbedding2D(width=2)
    >>> tuple(rope(np.ones((1, 6, 8), "float32")).shape)
    (1, 6, 8)
    """

    def __init__(self, width=None, **kwargs):
        super().__init__(**kwargs)
        if width is not None:
            check_at_least(width, 1, "width", "places in a row")
        self.width = width

    def frequencies(self, dim):
        """float64 array `(dim / 4,)` of radians per step, the same for `x` and `y`."""
        if dim <= 0 or dim % 4:
            raise ValueError(
                "Two-dimensional RoPE works on pairs of features, half of them for `x` "
                f"and half for `y`. Received dim={dim}. Choose a size divisible by 4."
            )
        return inverse_frequencies(dim // 2, self.max_wavelength)

    def positions_of(self, x, positions=None):
        if positions is not None:
            shape = tuple(positions.shape)
            if len(shape) not in (2, 3) or shape[-1] != 2:
                raise ValueError(
                    "Positions of a two-dimensional RoPE must have shape (L, 2) or "
                    f"(B, L, 2), `x` and `y` of each place. Received shape {shape}."
                )
            return ops.cast(positions, "float32")
        if self.width is None:
            raise ValueError(
                "A two-dimensional RoPE cannot guess where a place is. Give positions "
                "of shape (L, 2) or (B, L, 2), or a `width` to the constructor."
            )
        places = ops.arange(ops.shape(x)[-2], dtype="int32")
        pairs = ops.stack([places % self.width, places // self.width], axis=-1)
        return ops.cast(pairs, "float32")

    def rotate(self, x, positions=None):
        frequencies = self.frequencies(x.shape[-1])
        angles = rotation_angles(self.positions_of(x, positions), frequencies)
        # ([B], L, 2, dim/4) -> ([B], L, dim/2)
        angles = ops.concatenate([angles[..., 0, :], angles[..., 1, :]], axis=-1)
        return self.turn(x, angles)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class TrainedRotation(RotaryEmbedding):
    """Base class: position `p` turns by the power `O ** p` of a trained rotation.

    `p` is cut into bits, and a vector is multiplied by `O ** (2 ** j)` for every bit
    that is set: no matrix per position. Cost: one product of `L * dim ** 2` per bit and
    vector, instead of RoPE's `L * dim`. One rotation serves all heads.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = False

    def build(self, query_shape, value_shape=None):
        self.add_rotation_weights(query_shape[-1])
        self.built = True

    def add_rotation_weights(self, dim):
        raise NotImplementedError

    def powers(self):
        """List of `(step, O ** step)`, float32 `(dim, dim)`, of growing steps."""
        raise NotImplementedError

    def rotate(self, x, positions=None):
        dtype = x.dtype
        x = ops.cast(x, "float32")
        positions = self.positions_of(x, positions)
        if len(positions.shape) == 2:
            for _ in range(len(x.shape) - 3):
                positions = ops.expand_dims(positions, 1)
        powers = self.powers()
        smallest = powers[0][0]
        steps = ops.cast(ops.round(ops.abs(positions) / smallest), "int32")
        forward = ops.expand_dims(positions >= 0, -1)
        for j, (_, power) in enumerate(powers):
            is_set = ops.expand_dims((steps // 2**j) % 2 == 1, -1)
            turned = ops.matmul(x, ops.transpose(power))
            turned_back = ops.matmul(x, power)
            x = ops.where(is_set, ops.where(forward, turned, turned_back), x)
        return ops.cast(x, dtype)


def square_up(rotation, num_squarings):
    """`[O, O^2, O^4, ...]`, each made orthogonal again by a Newton step."""
    powers = [rotation]
    for _ in range(num_squarings):
        square = ops.matmul(powers[-1], powers[-1])
        gram = ops.matmul(square, ops.transpose(square))
        powers.append(1.5 * square - 0.5 * ops.matmul(gram, square))
    return powers


@keras.saving.register_keras_serializable(package="bert4keras3")
class ExponentialRotation(TrainedRotation):
    """The general solution of `R_m^T R_n = R_{n-m}`: `R_n = exp(n B)`, `B` trained.

    `B = A - A^T` with a trained `A` of `(dim, dim)`, which starts as RoPE; `B` is skew
    symmetric, so that `exp(n B)` is a rotation. For softmax attention RoPE loses no
    generality: the dense layers of query and key can take up the rest. Positions
    are multiples of 1/256 (others are rounded) between -32767 and 32767. `exp` is a
    Taylor series of order 10 of `B / 16`, squared four times. Padding is hidden after
    the product. Cost: 23 products of `L * dim ** 2` forwards and 23 backwards in
    position, for query and key each.

    Source: https://kexue.fm/archives/9403.

    Args:
        **kwargs: see `RotaryEmbedding`; `interleaved` says which pairs turn at the
            start.

    Raises:
        ValueError: odd `dim`.

    Example:

    >>> query = np.ones((1, 1, 3, 4), "float32")
    >>> rotation = ExponentialRotation()
    >>> rotation.build(query.shape)
    >>> rope = RotaryEmbedding().scores(query, query)
    >>> bool(np.allclose(rotation.scores(query, query), rope, atol=1e-5))
    True
    """

    def add_rotation_weights(self, dim):
        frequencies = self.frequencies(dim)
        first = np.arange(dim // 2)
        first, second = (
            (2 * first, 2 * first + 1)
            if self.interleaved
            else (first, first + dim // 2)
        )

        def rope(shape, dtype=None):
            start = np.zeros(shape, "float32")
            start[second, first] = frequencies
            return ops.convert_to_tensor(start, dtype=dtype)

        self.generator = self.add_weight(
            name="generator", shape=(dim, dim), initializer=rope, autocast=False
        )

    def powers(self):
        half = ops.cast(ops.convert_to_tensor(self.generator), "float32")
        skew = half - ops.transpose(half)
        halves = [2.0**-j for j in range(FRACTION_BITS, -1, -1)]
        # A series for each, as squaring the smallest would square its rounding errors.
        scales = ops.reshape(ops.convert_to_tensor(halves, "float32"), (-1, 1, 1))
        small = ops.expand_dims(skew, 0) * (scales / 16.0)
        identity = ops.eye(skew.shape[-1], dtype="float32")
        total = identity + small * 0.0
        for order in range(10, 0, -1):
            total = identity + ops.matmul(small, total) / float(order)
        for _ in range(4):
            total = ops.matmul(total, total)
        rotations = [total[j] for j in range(len(halves) - 1)]
        rotations += square_up(total[len(halves) - 1], INTEGER_BITS - 1)
        steps = halves + [2.0**j for j in range(1, INTEGER_BITS)]
        return list(zip(steps, rotations, strict=True))


@keras.saving.register_keras_serializable(package="bert4keras3")
class OrthogonalRotation(TrainedRotation):
    """Powers of a trained orthogonal matrix: `R_n = O ** n`, whole positions only.

    `O = H_1 H_2 ... H_k` with the reflections `H_j = I - 2 v_j v_j^T / |v_j|^2`; any
    orthogonal `O` is such a product of at most `dim` of them. An odd number of them has
    determinant -1, which `exp(n B)` cannot reach. Fractions of a position are rounded,
    positions lie between -32767 and 32767. Padding is hidden after the product. Cost:
    15 products of `L * dim ** 2` forwards and 15 backwards in position, for query and
    key each.

    Source: https://kexue.fm/archives/9403.

    Args:
        num_reflections: `k`, at least 1; `k` below `dim` leave `dim - k` directions
            alone.
        **kwargs: see `RotaryEmbedding`; there are no frequencies.

    Raises:
        ValueError: `num_reflections` below 1; odd `dim`.

    Example:

    >>> rotation = OrthogonalRotation(num_reflections=2)
    >>> rotation.build((1, 1, 3, 4))
    >>> x = np.ones((1, 1, 3, 4), "float32")
    >>> lengths = np.linalg.norm(rotation.rotate(x), axis=-1)
    >>> bool(np.allclose(lengths, 2.0, atol=1e-5))
    True
    """

    def __init__(self, num_reflections=8, **kwargs):
        super().__init__(**kwargs)
        check_at_least(num_reflections, 1, "num_reflections", "mirrors to multiply")
        self.num_reflections = num_reflections

    def add_rotation_weights(self, dim):
        self.mirrors = self.add_weight(
            name="mirrors",
            shape=(self.num_reflections, dim),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            autocast=False,
        )

    def powers(self):
        mirrors = ops.cast(ops.convert_to_tensor(self.mirrors), "float32")
        rotation = ops.eye(mirrors.shape[-1], dtype="float32")
        for j in range(self.num_reflections):
            mirror = ops.expand_dims(mirrors[j], -1)
            length = ops.maximum(ops.sum(ops.square(mirror)), 1e-12)
            seen = ops.matmul(rotation, mirror)
            rotation = rotation - 2.0 * ops.matmul(seen, ops.transpose(mirror)) / length
        steps = [2.0**j for j in range(INTEGER_BITS)]
        return list(zip(steps, square_up(rotation, INTEGER_BITS - 1), strict=True))

    def get_config(self):
        return {**super().get_config(), "num_reflections": self.num_reflections}


ROTARY_EMBEDDINGS.update(exponential=ExponentialRotation, orthogonal=OrthogonalRotation)
