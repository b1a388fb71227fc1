"""More normalizers: other temperatures, and weights whose rows do not sum to one.

See `attention_normalizer` for the hooks. Hidden keys hold a large negative logit and
get weight 0 from each of these; the core makes rows without a visible key zero.
"""

import math

import keras
from keras import ops

from bert4keras3.layers.attention_normalizer import (
    NORMALIZERS,
    AttentionNormalizer,
    Softmax,
)
from bert4keras3.ops import log_length_scale

# Added to sums of squares: no 0 / 0 in rows in which nothing has weight. The root of
# each bounds the slope near 0, and the square of each, which a derivative divides by,
# is a normal float32 number.
TINY, SMALL = 1e-12, 1e-6
# Beyond it exp() and the sums over a row would leave float32.
LARGEST_LOGIT = 60.0


@keras.saving.register_keras_serializable(package="bert4keras3")
class NaturalLogSoftmax(Softmax):
    """Softmax with logits scaled by `ln n`: `a = softmax(l * ln(max(n, 2)))`.

    `n` counts the keys that the row can see, padding not among them. At great lengths
    the weights come close to a single one, and gradients vanish. Sources: "Overcoming a
    Theoretical Limitation of Self-Attention", https://arxiv.org/abs/2202.12172;
    https://kexue.fm/archives/9034 on what it does.

    Example:

    >>> round(float(NaturalLogSoftmax().temperature(100.0)), 3)  # ln 100
    4.605
    """

    def temperature(self, num_keys):
        return log_length_scale(num_keys, math.e, 2)


@keras.saving.register_keras_serializable(package="bert4keras3")
class PredictionLogSoftmax(Softmax):
    """logn†: softmax with logits scaled by `max(1, ln n / ln base_length)`.

    For a model that was trained without log-n scaling: up to `base_length` visible keys
    nothing changes, beyond it the entropy of the weights grows no further. Source:
    https://kexue.fm/archives/9706.

    Args:
        base_length: length of training, above 1.

    Raises:
        ValueError: `base_length` of at most 1.

    Example:

    >>> logn = PredictionLogSoftmax(base_length=512)
    >>> round(float(logn.temperature(64.0)), 3)
    1.0
    >>> round(float(logn.temperature(4096.0)), 3)
    1.333
    """

    def __init__(self, base_length=512):
        if base_length <= 1:
            raise ValueError(
                "`base_length` must be above 1 (its logarithm divides). "
                f"Received {base_length}."
            )
        self.base_length = base_length

    def temperature(self, num_keys):
        return log_length_scale(num_keys, self.base_length, self.base_length)

    def get_config(self):
        return {"base_length": self.base_length}


@keras.saving.register_keras_serializable(package="bert4keras3")
class GradientMaximizingSoftmax(Softmax):
    """Softmax at the scale of its largest gradient: `a = softmax(0.84 sqrt(ln n) l)`.

    For logits of a standard normal distribution; `n` counts the visible keys, at least
    2. Source: https://kexue.fm/archives/9812.

    Example:

    >>> round(float(GradientMaximizingSoftmax().temperature(512.0)), 2)
    2.1
    """

    def temperature(self, num_keys):
        return 0.84 * ops.sqrt(log_length_scale(num_keys, math.e, 2))


@keras.saving.register_keras_serializable(package="bert4keras3")
class NormalizedSquaredReLU(AttentionNormalizer):
    """`a_ij = relu(l_ij)^2 / sum_j relu(l_ij)^2`; a row of negative logits gives zeros.

    Rows sum to one at every length, which `relu^2 / n` does not do. No temperature can
    sharpen it: the factor cancels. The sum has 1e-12 added, which holds the slope below
    2e6; where all logits of a row are below 1e-6, its sum falls to zero. Hidden keys
    have weight 0, so padding needs no care. Cost: two sums over the keys, and no
    exponentials. Source: https://kexue.fm/archives/9019.

    Example:

    >>> logits = np.array([[[[1.0, -2.0, 1.0, 0.0]]]], "float32")
    >>> float(NormalizedSquaredReLU()(logits, 4.0)[0, 0, 0, 0])
    0.5
    """

    def __call__(self, logits, num_keys):
        squares = ops.square(ops.relu(logits))
        return squares / (ops.sum(squares, axis=-1, keepdims=True) + TINY)


@keras.saving.register_keras_serializable(package="bert4keras3")
class L2Normalized(AttentionNormalizer):
    """`a_ij = exp(l_ij) / sqrt(sum_j exp(2 l_ij))`: rows of length one.

    The rows do not sum to one, so that positions on the logits alone let a model know
    absolute ones. Stable: the largest logit of a row is subtracted. Source:
    https://kexue.fm/archives/9105.

    Example:

    >>> float(L2Normalized()(np.zeros((1, 1, 1, 4), "float32"), 4.0)[0, 0, 0, 0])
    0.5
    """

    def __call__(self, logits, num_keys):
        peaks = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
        shares = ops.exp(logits - peaks)
        return shares * ops.rsqrt(ops.sum(ops.square(shares), axis=-1, keepdims=True))


@keras.saving.register_keras_serializable(package="bert4keras3")
class SwishL2(AttentionNormalizer):
    """`a_ij = swish(l_ij) / sqrt(sum_j swish(l_ij)^2)`; weights may be negative.

    The rows have length one and do not sum to one. The sum has 1e-6 added, which holds
    the slope below 1200; where all logits of a row are below 1e-3, its length falls to
    zero. Hidden keys have weight 0, so padding needs no care. Cost: that of softmax.
    Source: https://kexue.fm/archives/9105.

    Example:

    >>> weights = SwishL2()(np.ones((1, 1, 1, 4), "float32"), 4.0)
    >>> round(float(weights[0, 0, 0, 0]), 3)
    0.5
    """

    def __call__(self, logits, num_keys):
        values = ops.silu(logits)
        squares = ops.sum(ops.square(values), axis=-1, keepdims=True)
        return values * ops.rsqrt(squares + SMALL)


@keras.saving.register_keras_serializable(package="bert4keras3")
class Exponential(AttentionNormalizer):
    """`a_ij = exp(l_ij) / n`: attention without a denominator of its own.

    `n` is a constant, or the number of keys that the row can see. Logits above 60 count
    as 60, so that no sum leaves float32; float16 holds weights up to `exp(11)` only.
    Source: https://kexue.fm/archives/9105.

    Args:
        length: `n`, positive; `None` for the visible keys of each row.

    Raises:
        ValueError: `length` is not positive.

    Example:

    >>> float(Exponential()(np.zeros((1, 1, 1, 4), "float32"), 4.0)[0, 0, 0, 0])
    0.25
    """

    def __init__(self, length=None):
        if length is not None and length <= 0:
            raise ValueError(
                "`length` must be positive, or None for the visible keys of each row. "
                f"Received {length}."
            )
        self.length = length

    def __call__(self, logits, num_keys):
        length = ops.maximum(num_keys, 1.0) if self.length is None else self.length
        return ops.exp(ops.minimum(logits, LARGEST_LOGIT)) / length

    def get_config(self):
        return {"length": self.length}


@keras.saving.register_keras_serializable(package="bert4keras3")
class Laplace(AttentionNormalizer):
    """`a_ij = (1 + erf((l_ij - sqrt(1/2)) sqrt(2 pi))) / 2`, a smooth form of relu^2.

    The distribution function of a normal variable of mean `sqrt(1/2)` and variance
    `1 / (4 pi)`. Each weight is between 0 and 1, rows do not sum to one. Hidden keys
    have weight 0, so padding needs no care. Cost: one `erf` per pair. Source: Mega,
    https://arxiv.org/abs/2209.10655.

    Example:

    >>> logits = np.full((1, 1, 1, 4), 0.5**0.5, "float32")
    >>> float(Laplace()(logits, 4.0)[0, 0, 0, 0])
    0.5
    """

    def __call__(self, logits, num_keys):
        return 0.5 * (1.0 + ops.erf((logits - math.sqrt(0.5)) * math.sqrt(2 * math.pi)))


NORMALIZERS |= {
    "natural_log_softmax": NaturalLogSoftmax,
    "logn_prediction_softmax": PredictionLogSoftmax,
    "gradient_maximizing_softmax": GradientMaximizingSoftmax,
    "squared_relu_normalized": NormalizedSquaredReLU,
    "l2": L2Normalized,
    "swish_l2": SwishL2,
    "exponential": Exponential,
    "laplace": Laplace,
}
