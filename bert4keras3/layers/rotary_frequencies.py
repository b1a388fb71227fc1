"""RoPE with other frequencies: what lets a model read longer than it was trained."""

import math

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.rotary_embedding import ROTARY_EMBEDDINGS, RotaryEmbedding
from bert4keras3.naming import check_at_least


class ScaledRotaryEmbedding(RotaryEmbedding):
    """Base class of the variants with a fixed scale factor `k`.

    Args:
        scaling_factor: `k`, the length to be read over the length of training; 1 is
            RoPE.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `scaling_factor` below 1.
    """

    def __init__(self, scaling_factor=8.0, **kwargs):
        super().__init__(**kwargs)
        check_at_least(
            scaling_factor,
            1,
            "scaling_factor",
            "the length to be read over the length of training, 1 is plain RoPE",
        )
        self.scaling_factor = scaling_factor

    def get_config(self):
        return {**super().get_config(), "scaling_factor": self.scaling_factor}


@keras.saving.register_keras_serializable(package="bert4keras3")
class LinearInterpolation(ScaledRotaryEmbedding):
    """Position interpolation, PI: positions are divided by `k`.

    `theta'_i = theta_i / k`, the same as `n -> n / k`. Neighbours come nearer to each
    other than in training, so PI wants some steps of fine-tuning. Shapes, padding and
    cost are those of `RotaryEmbedding`: padding is hidden after the product.

    Source: https://arxiv.org/abs/2306.15595.

    Args:
        scaling_factor: `k`, at least 1.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `scaling_factor` below 1; odd `dim`.

    Example:

    >>> LinearInterpolation(4.0).frequencies(4).tolist()
    [0.25, 0.0025]
    """

    def frequencies(self, dim):
        return super().frequencies(dim) / self.scaling_factor


@keras.saving.register_keras_serializable(package="bert4keras3")
class NTKRoPE(ScaledRotaryEmbedding):
    """NTK-aware RoPE, the old form: a larger base.

    `theta'_i = (max_wavelength * k) ** (-2 i / dim)`, so that fast pairs keep their
    angle and slow pairs are interpolated, by nearly `k`. With `use_exact_exponent` the
    base is multiplied by `k ** (dim / (dim - 2))`, and the slowest pair is interpolated
    by `k` exactly. Shapes, padding and cost are those of `RotaryEmbedding`.

    Sources: https://kexue.fm/archives/9675 (`k`); bloc97's post of June 2023, quoted
    there and in https://arxiv.org/abs/2309.00071 (the exponent).

    Args:
        scaling_factor: `k`, at least 1.
        use_exact_exponent: bloc97's exponent.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `scaling_factor` below 1; odd `dim`; `dim` below 4 with the
            exact exponent.

    Example:

    >>> NTKRoPE(4.0, max_wavelength=25.0).frequencies(4).round(4).tolist()
    [1.0, 0.1]
    """

    def __init__(self, scaling_factor=8.0, use_exact_exponent=False, **kwargs):
        super().__init__(scaling_factor, **kwargs)
        self.use_exact_exponent = use_exact_exponent

    def frequencies(self, dim):
        plain = super().frequencies(dim)
        exponent = base_exponent(dim, self.use_exact_exponent)
        powers = -exponent * np.arange(0, dim, 2) / dim
        return plain * self.scaling_factor**powers

    def get_config(self):
        return {**super().get_config(), "use_exact_exponent": self.use_exact_exponent}


def base_exponent(dim, use_exact_exponent):
    """The power of the scale factor that multiplies the base: 1 or `dim / (dim - 2)`.

    Raises:
        ValueError: `dim` below 4 with the exact exponent.
    """
    if not use_exact_exponent:
        return 1.0
    check_at_least(dim, 4, "dim", "the exact exponent is dim / (dim - 2)")
    return dim / (dim - 2)


@keras.saving.register_keras_serializable(package="bert4keras3")
class NTKFixed(ScaledRotaryEmbedding):
    """NTK-RoPE-fixed: every pair is interpolated, the slowest by `k` exactly.

    `theta'_i = theta_i * k ** (-2 (i + 1) / dim)`, `i = 0 .. dim/2 - 1`. Shapes,
    padding and cost are those of `RotaryEmbedding`.

    Source: https://kexue.fm/archives/9706.

    Args:
        scaling_factor: `k`, at least 1.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `scaling_factor` below 1; odd `dim`.

    Example:

    >>> NTKFixed(4.0).frequencies(4).tolist()
    [0.5, 0.0025]
    """

    def frequencies(self, dim):
        powers = -np.arange(2, dim + 2, 2) / dim
        plain = super().frequencies(dim)
        return plain * self.scaling_factor**powers


@keras.saving.register_keras_serializable(package="bert4keras3")
class NTKMixed(ScaledRotaryEmbedding):
    """NTK-RoPE-mixed: between position interpolation and NTK-fixed.

    `theta'_i = theta_i * exp(-a (i + 1) ** b)`, with `a (dim/2) ** b = ln k`: the
    slowest pair is interpolated by `k`. `b = 1` is `NTKFixed`, `b = 0` is
    `LinearInterpolation`. Shapes, padding and cost are those of `RotaryEmbedding`.

    Source: https://kexue.fm/archives/9706 (`b = 0.625`).

    Args:
        scaling_factor: `k`, at least 1.
        exponent: `b`, at least 0.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `scaling_factor` below 1 or `exponent` below 0; odd `dim`.

    Example:

    >>> NTKMixed(4.0, exponent=1.0).frequencies(4).tolist()
    [0.5, 0.0025]
    """

    def __init__(self, scaling_factor=8.0, exponent=0.625, **kwargs):
        super().__init__(scaling_factor, **kwargs)
        check_at_least(exponent, 0, "exponent", "0 interpolates all pairs alike")
        self.exponent = exponent

    def frequencies(self, dim):
        shares = (np.arange(1, dim // 2 + 1) / (dim / 2)) ** self.exponent
        plain = super().frequencies(dim)
        return plain * self.scaling_factor**-shares

    def get_config(self):
        return {**super().get_config(), "exponent": self.exponent}


@keras.saving.register_keras_serializable(package="bert4keras3")
class YaRN(ScaledRotaryEmbedding):
    """YaRN: interpolate slow pairs, keep fast ones, sharpen the logits.

    `theta'_i = (g_i + (1 - g_i) / s) theta_i` and logits times `(1 + 0.1 ln s) ** 2`.
    `r_i = theta_i * train_length / (2 pi)` counts the turns of a pair in training;
    `g_i` is 1 above `fast_turns`, 0 below `slow_turns`, and linear in `r_i` between
    them. `s = 1` is RoPE. Shapes, padding and cost are those of `RotaryEmbedding`; the
    factor of the logits acts in `scores`, on the query.

    Source: https://arxiv.org/abs/2309.00071; https://kexue.fm/archives/9948.

    Args:
        scaling_factor: `s`, at least 1.
        train_length: length of training.
        fast_turns: from here on a pair keeps its angle (`tau`; 32 in the paper).
        slow_turns: up to here a pair is interpolated (1 in the paper).
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `scaling_factor` or `train_length` below 1, `slow_turns` below 0, or
            `fast_turns` not above it; odd `dim`.

    Example:

    >>> YaRN(4.0, train_length=512).frequencies(4).tolist()
    [1.0, 0.0025]
    """

    def __init__(
        self,
        scaling_factor=8.0,
        train_length=512,
        fast_turns=32.0,
        slow_turns=1.0,
        **kwargs,
    ):
        super().__init__(scaling_factor, **kwargs)
        check_at_least(train_length, 1, "train_length", "the length of training")
        check_at_least(slow_turns, 0, "slow_turns", "turns of a pair in training")
        if not fast_turns > slow_turns:
            raise ValueError(
                "`fast_turns` must be above `slow_turns`: pairs between the two are "
                f"blended. Received {fast_turns} and {slow_turns}."
            )
        self.train_length = train_length
        self.fast_turns = fast_turns
        self.slow_turns = slow_turns

    def frequencies(self, dim):
        plain = super().frequencies(dim)
        turns = plain * self.train_length / (2 * math.pi)
        kept = (turns - self.slow_turns) / (self.fast_turns - self.slow_turns)
        kept = np.clip(kept, 0.0, 1.0)
        return plain * (kept + (1.0 - kept) / self.scaling_factor)

    def scores(self, query, key, query_positions=None, key_positions=None):
        query = query * (1.0 + 0.1 * math.log(self.scaling_factor)) ** 2
        return super().scores(query, key, query_positions, key_positions)

    def get_config(self):
        return {
            **super().get_config(),
            "train_length": self.train_length,
            "fast_turns": self.fast_turns,
            "slow_turns": self.slow_turns,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class DynamicNTK(RotaryEmbedding):
    """NTK-aware RoPE whose scale follows the length: RoPE up to the length of training.

    `s = max(train_length, p + 1) / train_length`, with `p` the largest position of the
    row, queries and keys together, and the base of the frequencies times `s`, see
    `NTKRoPE`. Up to `train_length` logits depend on the distance alone. Beyond it they
    are not shift invariant: moving all positions moves `p` and with it `s`. In window
    attention, too, `p` is that of the whole row. Padding at the end of a row counts as
    part of its length; give `positions` to avoid that. Cost is that of
    `RotaryEmbedding`. Keys that were rotated and cached at one length are wrong at a
    longer one: cache them unrotated.

    Sources: https://kexue.fm/archives/9948 (dynamic scaling);
    https://arxiv.org/abs/2309.00071, section 3.4.

    Args:
        train_length: length of training.
        use_exact_exponent: see `NTKRoPE`.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `train_length` below 1; odd `dim`; `dim` below 4 with the exact
            exponent.

    Example:

    >>> x = np.ones((1, 3, 8), "float32")
    >>> bool(np.allclose(DynamicNTK(512)(x), RotaryEmbedding()(x)))
    True
    """

    follows_length = True

    def __init__(self, train_length=512, use_exact_exponent=False, **kwargs):
        super().__init__(**kwargs)
        check_at_least(train_length, 1, "train_length", "the length of training")
        self.train_length = train_length
        self.use_exact_exponent = use_exact_exponent

    def log_scale(self, *positions):
        """`ln s`, float32 `(1,)`, or `(B, 1)` if any positions have a batch axis."""
        largest = [ops.max(each, axis=-1, keepdims=True) for each in positions]
        length = largest[0] if len(largest) == 1 else ops.maximum(*largest)
        return ops.log(ops.maximum((length + 1.0) / self.train_length, 1.0))

    def rotate_scaled(self, x, positions, log_scale):
        """Rotate `x` with the base times `s`."""
        dim = x.shape[-1]
        exponent = base_exponent(dim, self.use_exact_exponent)
        powers = ops.convert_to_tensor(
            exponent * np.arange(0, dim, 2) / dim, dtype="float32"
        )
        # (1,) -> (1, dim/2) or (B, 1) -> (B, 1, dim/2), as the angles.
        shrink = ops.exp(-ops.expand_dims(log_scale, -1) * powers)
        frequencies = ops.convert_to_tensor(self.frequencies(dim), dtype="float32")
        # Frequencies that depend on the input: whole turns cannot be left out.
        return self.turn(x, ops.expand_dims(positions, -1) * (frequencies * shrink))

    def rotate(self, x, positions=None):
        positions = self.positions_of(x, positions)
        return self.rotate_scaled(x, positions, self.log_scale(positions))

    def scores(
        self,
        query,
        key,
        query_positions=None,
        key_positions=None,
        largest_position=None,
    ):
        query_positions = self.positions_of(query, query_positions)
        key_positions = self.positions_of(key, key_positions)
        seen = (query_positions, key_positions)
        log_scale = self.log_scale(
            *(seen if largest_position is None else [largest_position])
        )
        query = self.rotate_scaled(query, query_positions, log_scale)
        key = self.rotate_scaled(key, key_positions, log_scale)
        return ops.matmul(query, ops.swapaxes(key, -1, -2))

    def get_config(self):
        return {
            **super().get_config(),
            "train_length": self.train_length,
            "use_exact_exponent": self.use_exact_exponent,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class AdjustedBaseFrequency(RotaryEmbedding):
    """ABF: RoPE with the base 500000, which slows all pairs but the first.

    `theta_i = 500000 ** (-2 i / dim)`. Shapes, padding and cost are those of
    `RotaryEmbedding`.

    Source: https://arxiv.org/abs/2309.16039.

    Args:
        max_wavelength: base of the frequencies.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `max_wavelength` not positive; odd `dim`.

    Example:

    >>> AdjustedBaseFrequency().max_wavelength
    500000.0
    """

    def __init__(self, max_wavelength=500000.0, **kwargs):
        super().__init__(max_wavelength=max_wavelength, **kwargs)


ROTARY_EMBEDDINGS.update(
    linear_interpolation=LinearInterpolation,
    ntk_old=NTKRoPE,
    ntk_fixed=NTKFixed,
    ntk_mixed=NTKMixed,
    yarn=YaRN,
    dynamic_ntk=DynamicNTK,
    abf=AdjustedBaseFrequency,
)
