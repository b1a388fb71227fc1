"""Positions as a function of the distance alone, added to the logits of each head.

All of these look at `|i - j|`, so without a causal mask a model cannot tell left from
right by them; `"alibi_bidirectional"` mends that.
"""

import functools

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.attention_bias import POSITION_BIASES, PositionBias
from bert4keras3.ops import places_or_given, sinusoidal_embedding

LEAST = 0.01  # of the trained parameters of KERPLE


class DistanceBias(PositionBias):
    """Base class: `l_ij = s q_i k_j + of_distances(i - j)`, a function for each head.

    Distances are float32 differences of positions. Padding needs no care: keys are
    hidden after the bias has been added. Cost: `N * T * S` numbers, shared by the batch
    unless its rows have positions of their own.
    """

    def of_distances(self, distances, num_heads):
        """`([B,] num_heads, T, S)` from `i - j`, float32 `([B,] 1, T, S)`."""
        raise NotImplementedError

    def bias(self, query, key_length, query_positions=None, key_positions=None):
        rows = places_or_given(ops.shape(query)[-2], query_positions)
        columns = places_or_given(key_length, key_positions)
        distances = ops.expand_dims(rows, -1) - ops.expand_dims(columns, -2)
        return self.of_distances(ops.expand_dims(distances, -3), query.shape[1])


def by_head(values):
    """`(N,)` numbers, made to broadcast to `(N, T, S)`."""
    return ops.reshape(ops.convert_to_tensor(values), (-1, 1, 1))


def alibi_slopes(num_heads):
    """float32 slopes of ALiBi: `2 ** (-8 h / N)`, `h = 1 .. N`.

    For a number that is no power of two: the slopes of the power below, then every
    second one of the power above.
    """
    power = 2 ** int(np.log2(num_heads))
    slopes = [2.0 ** (-8 * h / power) for h in range(1, power + 1)]
    between = [2.0 ** (-8 * h / (2 * power)) for h in range(1, 2 * power + 1, 2)]
    return np.array(slopes + between[: num_heads - power], "float32")


@keras.saving.register_keras_serializable(package="bert4keras3")
class ALiBi(DistanceBias):
    """ALiBi: `l_ij = s q_i k_j - slope_h |i - j|`, nothing trained.

    Added after the division by `sqrt(H)`; see `alibi_slopes`. A single head has the
    slope 1/256. See `DistanceBias` for padding and cost. Source:
    https://arxiv.org/abs/2108.12409.

    Args:
        bidirectional: add `slope_h / 2` where the key is before the query, so that an
            encoder can tell both sides apart (https://arxiv.org/abs/2305.16843).

    Example:

    >>> query = np.ones((1, 8, 3, 4), "float32")
    >>> np.asarray(ALiBi().bias(query, 3))[0, 2, :2].tolist()  # slope 1/2
    [-1.0, -0.5]
    """

    def __init__(self, bidirectional=False, **kwargs):
        super().__init__(**kwargs)
        self.bidirectional = bidirectional

    def of_distances(self, distances, num_heads):
        falling = -ops.abs(distances)
        if self.bidirectional:
            falling = falling + 0.5 * ops.cast(distances > 0, "float32")
        return falling * by_head(alibi_slopes(num_heads))

    def get_config(self):
        return {**super().get_config(), "bidirectional": self.bidirectional}


@keras.saving.register_keras_serializable(package="bert4keras3")
class WithinBounds(keras.constraints.Constraint):
    """Brings a weight back between two bounds after each step of an optimizer.

    Args:
        least, largest: the bounds.

    Example:

    >>> float(WithinBounds(0.0, 2.0)(np.float32(5.0)))
    2.0
    """

    def __init__(self, least, largest):
        self.least = least
        self.largest = largest

    def __call__(self, w):
        return ops.clip(w, self.least, self.largest)

    def get_config(self):
        return {"least": self.least, "largest": self.largest}


class KERPLE(DistanceBias):
    """Base class of the kernels of KERPLE: positive parameters for each head.

    Like the official code, and unlike equation 1 of the paper, the kernel is added
    after the division by `sqrt(H)`. Parameters are held at 0.01 or more, exponents at 2
    or less, by a constraint, which optimizers apply, and again where they are used.
    Source: https://arxiv.org/abs/2205.09921. One for all layers of a model.
    """

    # Parameter -> the upper end of its uniform initial values, and its largest value.
    parameters: dict = {}

    def build(self, query_shape, value_shape=None):
        for name, (spread, largest) in self.parameters.items():
            weight = self.add_weight(
                name=name,
                shape=(query_shape[1],),
                initializer=keras.initializers.RandomUniform(LEAST, spread),
                constraint=WithinBounds(LEAST, largest),
                autocast=False,
            )
            setattr(self, name, weight)

    def parameter(self, name):
        """The parameter within its bounds; gradients pass as if there were none."""
        value = ops.cast(ops.convert_to_tensor(getattr(self, name)), "float32")
        largest = self.parameters[name][1]
        held = ops.clip(value, LEAST, largest)
        return by_head(value + ops.stop_gradient(held - value))


def power(distances, exponent):
    """`|d| ** exponent` whose gradient is finite at 0."""
    zero = ops.equal(distances, 0.0)
    safe = ops.where(zero, 1.0, ops.abs(distances))
    return ops.where(zero, 0.0, ops.exp(exponent * ops.log(safe)))


@keras.saving.register_keras_serializable(package="bert4keras3")
class KERPLEPower(KERPLE):
    """KERPLE's power kernel: `l_ij = s q_i k_j - r_1 |i - j| ** r_2`, `0 < r_2 <= 2`.

    With `r_2 = 1` it is ALiBi with trained slopes. See `KERPLE`.

    Example:

    >>> kerple = KERPLEPower()
    >>> kerple.build((None, 8, None, 4))
    >>> tuple(kerple.bias(np.ones((1, 8, 3, 4), "float32"), 5).shape)
    (8, 3, 5)
    """

    parameters = {"factor": (1.0, 1e9), "exponent": (2.0, 2.0)}

    def of_distances(self, distances, num_heads):
        return -self.parameter("factor") * power(distances, self.parameter("exponent"))


@keras.saving.register_keras_serializable(package="bert4keras3")
class KERPLELog(KERPLE):
    """KERPLE's logarithmic kernel: `l_ij = s q_i k_j - r_1 ln(1 + r_2 |i - j|)`.

    The best of the paper at lengths beyond the training. `r_1` and `r_2` are at least
    0.01. Padding and cost as in `DistanceBias`; sources in `KERPLE`.

    Args:
        **kwargs: of a Keras layer, such as `name` and `dtype`.

    Example:

    >>> kerple = KERPLELog()
    >>> kerple.build((None, 8, None, 4))
    >>> tuple(kerple.bias(np.ones((1, 8, 3, 4), "float32"), 5).shape)
    (8, 3, 5)
    """

    parameters = {"factor": (2.0, 1e9), "rate": (1.0, 1e9)}

    def of_distances(self, distances, num_heads):
        inside = self.parameter("rate") * ops.abs(distances)
        return -self.parameter("factor") * ops.log1p(inside)


@keras.saving.register_keras_serializable(package="bert4keras3")
class KERPLELog3(KERPLE):
    """KERPLE of three parameters: `l_ij = s q_i k_j - r_1 ln(1 + r_2 |i-j| ** r_3)`.

    `0 < r_3 <= 2`; with `r_3 = 1` it is `KERPLELog`. All three are at least 0.01.
    Padding and cost as in `DistanceBias`; sources in `KERPLE`.

    Args:
        **kwargs: of a Keras layer, such as `name` and `dtype`.

    Example:

    >>> kerple = KERPLELog3()
    >>> kerple.build((None, 8, None, 4))
    >>> tuple(kerple.bias(np.ones((1, 8, 3, 4), "float32"), 5).shape)
    (8, 3, 5)
    """

    parameters = {"factor": (2.0, 1e9), "rate": (1.0, 1e9), "exponent": (2.0, 2.0)}

    def of_distances(self, distances, num_heads):
        inside = self.parameter("rate") * power(distances, self.parameter("exponent"))
        return -self.parameter("factor") * ops.log1p(inside)


@keras.saving.register_keras_serializable(package="bert4keras3")
class Sandwich(PositionBias):
    """Sandwich: the product of two sinusoidal positions, falling with the distance.

    `l_ij = s q_i k_j + (sum_m cos((i - j) w_m) - dim/2) * N / (8 h)` for the heads
    `h = 1 .. N`, with `w_m = 10000 ** (-2 m / dim)`, `m = 1 .. dim/2`, as NeMo has it.
    Nothing is trained. Padding needs no care. Cost: a product of `(T, dim)` and
    `(dim, S)`. Source: https://arxiv.org/abs/2212.10356.

    Args:
        dim: even size of the sinusoidal vectors; `None` for that of the query.

    Raises:
        ValueError: odd size.

    Example:

    >>> query = np.ones((1, 8, 3, 128), "float32")
    >>> round(float(np.asarray(Sandwich().bias(query, 3))[7, 1, 0]), 2)  # of -1.45
    -0.18
    """

    def __init__(self, dim=None, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def bias(self, query, key_length, query_positions=None, key_positions=None):
        dim = self.dim or query.shape[-1]
        rows = places_or_given(ops.shape(query)[-2], query_positions)
        columns = places_or_given(key_length, key_positions)
        # Frequencies from m = 1 on: those of two more features, less the first pair.
        base = 10000.0 ** ((dim + 2) / dim)
        vectors = [
            sinusoidal_embedding(positions, dim + 2, base)[..., 2:]
            for positions in (rows, columns)
        ]
        products = ops.matmul(vectors[0], ops.swapaxes(vectors[1], -1, -2))
        falling = ops.expand_dims(products - dim / 2, -3)
        heads = np.arange(1, query.shape[1] + 1, dtype="float32")
        return falling * by_head(len(heads) / (8 * heads))

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


POSITION_BIASES |= {
    "alibi": ALiBi,
    "alibi_bidirectional": functools.partial(ALiBi, bidirectional=True),
    "kerple_power": KERPLEPower,
    "kerple_log": KERPLELog,
    "kerple_log_3": KERPLELog3,
    "sandwich": Sandwich,
}
