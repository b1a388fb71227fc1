"""Rotary schemes whose product of query and key is more than one rotation."""

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.rotary_embedding import ROTARY_EMBEDDINGS, RotaryEmbedding
from bert4keras3.naming import check_at_least

# exp(40) = 2e17: the product of two such powers of XPOS is finite in float32.
MAX_LOG_DECAY = 40.0


@keras.saving.register_keras_serializable(package="bert4keras3")
class XPOS(RotaryEmbedding):
    """XPOS: RoPE whose pairs decay with the distance, for causal attention only.

    `q'_m k_n' = sum_i zeta_i ** ((m - n) / scale_base) * (R_m q)_i (R_n k)_i`, with
    `zeta_i = (2 i / dim + gamma) / (1 + gamma)` for the pair `i`. For keys after the
    query the factor grows, hence `needs_causal_mask`: the logits of those keys are
    finite, but of no use. Positions are centred, and powers clipped to `exp(40)`, so
    that none overflows; with the default `gamma` nothing is clipped up to a length of
    `63 * scale_base` (32256). The product and its `(B, N, T, S)` logits are
    float32. Padding is hidden after the product; cost is that of `RotaryEmbedding`.

    Source: https://arxiv.org/abs/2212.10554.

    Args:
        gamma: decay of the fastest pair; the larger, the slower. Above 0.
        scale_base: distance over which a pair decays by `zeta`.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `gamma` not above 0, `scale_base` below 1; odd `dim`.

    Example:

    >>> query = np.ones((1, 1, 3, 4), "float32")
    >>> tuple(XPOS().scores(query, query).shape)
    (1, 1, 3, 3)
    """

    needs_causal_mask = True

    def __init__(self, gamma=0.4, scale_base=512, **kwargs):
        super().__init__(**kwargs)
        if not gamma > 0:
            raise ValueError(
                "`gamma` must be above 0, or the fastest pair has no decay to a power. "
                f"Received {gamma}. The paper uses 0.4."
            )
        check_at_least(scale_base, 1, "scale_base", "a distance; the paper uses 512")
        self.gamma = gamma
        self.scale_base = scale_base

    def scores(self, query, key, query_positions=None, key_positions=None):
        query_positions = self.positions_of(query, query_positions)
        key_positions = self.positions_of(key, key_positions)
        # Any centre cancels in the product: this one keeps the powers small.
        both = (query_positions, key_positions)
        highest = ops.maximum(*(ops.max(p, axis=-1, keepdims=True) for p in both))
        lowest = ops.minimum(*(ops.min(p, axis=-1, keepdims=True) for p in both))
        centre = (highest + lowest) / 2.0
        query = self.rotate_and_decay(query, query_positions, centre, 1.0)
        key = self.rotate_and_decay(key, key_positions, centre, -1.0)
        return ops.matmul(query, ops.swapaxes(key, -1, -2))

    def rotate_and_decay(self, x, positions, centre, sign):
        """float32 `(R_p x)_i * zeta_i ** (sign * (p - centre) / scale_base)`."""
        dim = x.shape[-1]
        zeta = (np.arange(0, dim, 2) / dim + self.gamma) / (1.0 + self.gamma)
        exponents = sign * (positions - centre) / self.scale_base
        rates = ops.convert_to_tensor(np.log(zeta), dtype="float32")
        log_decay = ops.expand_dims(exponents, -1) * rates
        decay = ops.exp(ops.clip(log_decay, -MAX_LOG_DECAY, MAX_LOG_DECAY))
        if self.interleaved:
            decay = ops.repeat(decay, 2, axis=-1)
        else:
            decay = ops.concatenate([decay, decay], axis=-1)
        if len(decay.shape) == 3:
            decay = ops.expand_dims(decay, 1)
        return self.rotate(ops.cast(x, "float32"), positions) * decay

    def get_config(self):
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "scale_base": self.scale_base,
        }


class WindowedRotaryEmbedding(RotaryEmbedding):
    """Base class: RoPE at distances below `window`, other distances beyond it.

    With `f = compress`, `d = m - n` and `w = window`, the distance is `d` where
    `|d| < w`, `f(m) - f(n) + (w - f(w))` where `d >= w`, and, if `bidirectional`,
    `f(m) - f(n) - (w - f(w))` where `d <= -w`, its mirror image. The window compares
    positions, not places. Cost: two products of `T * S`, three if bidirectional.

    Args:
        window: `w`, at least 1; a quarter to a half of the length of training.
        bidirectional: mirror the scheme for keys after the query. Without it, one
            product less, they keep RoPE's distances: for causal attention.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `window` below 1; odd `dim`.
    """

    def __init__(self, window=128, bidirectional=True, **kwargs):
        super().__init__(**kwargs)
        check_at_least(window, 1, "window", "distances below it are those of RoPE")
        self.window = window
        self.bidirectional = bidirectional

    def compress(self, positions):
        """float32 positions for distances beyond the window; acts on numbers too."""
        raise NotImplementedError

    def scores(self, query, key, query_positions=None, key_positions=None):
        query_positions = self.positions_of(query, query_positions)
        key_positions = self.positions_of(key, key_positions)
        distances = ops.expand_dims(query_positions, -1)
        distances = distances - ops.expand_dims(key_positions, -2)
        if len(distances.shape) == 3:
            distances = ops.expand_dims(distances, 1)

        far_key = self.rotate(key, self.compress(key_positions))
        far_key = ops.swapaxes(far_key, -1, -2)
        far_positions = self.compress(query_positions)
        shift = self.window - self.compress(self.window)

        logits = super().scores(query, key, query_positions, key_positions)
        behind = ops.matmul(self.rotate(query, far_positions + shift), far_key)
        logits = ops.where(distances >= self.window, behind, logits)
        if self.bidirectional:
            ahead = ops.matmul(self.rotate(query, far_positions - shift), far_key)
            logits = ops.where(distances <= -self.window, ahead, logits)
        return logits

    def get_config(self):
        return {
            **super().get_config(),
            "window": self.window,
            "bidirectional": self.bidirectional,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class ReRoPE(WindowedRotaryEmbedding):
    """ReRoPE: distances are cut at the window.

    `q_m k_n = q R_{-c} k` with `c = sign(m - n) * min(|m - n|, window)`: no distance is
    longer than in training. Query and key are `(B, N, T, dim)` and `(B, N, S, dim)`,
    logits `(B, N, T, S)`. Padding is hidden after the products. Cost: two products of
    `T * S`, three if bidirectional.

    Source: https://kexue.fm/archives/9708. It is for inference, without retraining.

    Args:
        window, bidirectional: see `WindowedRotaryEmbedding`.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `window` below 1; odd `dim`.

    Example:

    >>> query = np.ones((1, 1, 9, 4), "float32")
    >>> far = np.asarray(ReRoPE(window=3).scores(query, query))[0, 0, 8, :6]
    >>> bool(np.allclose(far, far[0], atol=1e-5))
    True
    """

    def compress(self, positions):
        return positions * 0.0


class SlopedRotaryEmbedding(WindowedRotaryEmbedding):
    """Base class: beyond the window the distance grows by `slope`, of a factor.

    Args:
        window, bidirectional: see `WindowedRotaryEmbedding`.
        factor: at least 1.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `window` or `factor` below 1; odd `dim`.
    """

    def __init__(self, window=128, factor=16.0, bidirectional=True, **kwargs):
        super().__init__(window, bidirectional, **kwargs)
        check_at_least(factor, 1, "factor", "of the distances beyond the window")
        self.factor = factor

    def slope(self):
        """How much a step beyond the window counts."""
        raise NotImplementedError

    def compress(self, positions):
        return positions * self.slope()

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="bert4keras3")
class LeakyReRoPE(SlopedRotaryEmbedding):
    """Leaky ReRoPE: distances grow slower beyond the window.

    The distance is `d` below the window `w`, and `w + (d - w) / factor` beyond it, with
    the sign of `m - n`. `factor` 1 is RoPE, and an infinite one ReRoPE. Shapes, padding
    and cost are those of `ReRoPE`.

    Source: https://kexue.fm/archives/9708.

    Args:
        window, bidirectional: see `WindowedRotaryEmbedding`.
        factor: at least 1.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `window` or `factor` below 1; odd `dim`.

    Example:

    >>> query = np.ones((1, 1, 9, 4), "float32")
    >>> tuple(LeakyReRoPE(window=3, factor=8.0).scores(query, query).shape)
    (1, 1, 9, 9)
    """

    def slope(self):
        return 1.0 / self.factor


@keras.saving.register_keras_serializable(package="bert4keras3")
class InvLeakyReRoPE(SlopedRotaryEmbedding):
    """Inverse Leaky ReRoPE: distances grow faster beyond the window, in training.

    The distance is `d` below the window `w`, and `w + (d - w) * factor` beyond it, with
    the sign of `m - n`: `LeakyReRoPE` with `1 / factor`. This is the training form. For
    inference put plain `"rope"` in its place, at one product: there are no weights, so
    any file fits. Shapes, padding and cost as in `ReRoPE`.

    Source: https://kexue.fm/archives/9728 (a window of a quarter of the length of
    training, and a factor of twice the expansion).

    Args:
        window, bidirectional: see `WindowedRotaryEmbedding`.
        factor: at least 1.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `window` or `factor` below 1; odd `dim`.

    Example:

    >>> query = np.ones((1, 1, 9, 4), "float32")
    >>> tuple(InvLeakyReRoPE(window=3).scores(query, query).shape)
    (1, 1, 9, 9)
    """

    def slope(self):
        return self.factor


@keras.saving.register_keras_serializable(package="bert4keras3")
class SelfExtend(WindowedRotaryEmbedding):
    """Self-Extend: whole groups of places share a position beyond the window.

    The distance is `d` below the window `w`; beyond it `floor(m/g) - floor(n/g)` plus
    `w - floor(w/g)` (minus it for keys after the query). Only a shift of all positions
    by a multiple of `g` changes nothing. Shapes, padding and cost as in `ReRoPE`.

    Source: https://arxiv.org/abs/2401.01325. It is for inference, without retraining.

    Args:
        window, bidirectional: see `WindowedRotaryEmbedding`.
        group_size: `g`, at least 1; 1 is RoPE.
        **kwargs: see `RotaryEmbedding`.

    Raises:
        ValueError: `window` or `group_size` below 1; odd `dim`.

    Example:

    >>> query = np.ones((1, 1, 9, 4), "float32")
    >>> tuple(SelfExtend(window=3, group_size=2).scores(query, query).shape)
    (1, 1, 9, 9)
    """

    def __init__(self, window=128, group_size=8, bidirectional=True, **kwargs):
        super().__init__(window, bidirectional, **kwargs)
        check_at_least(group_size, 1, "group_size", "places that share a position")
        self.group_size = group_size

    def compress(self, positions):
        return positions // self.group_size

    def get_config(self):
        return {**super().get_config(), "group_size": self.group_size}


ROTARY_EMBEDDINGS.update(
    xpos=XPOS,
    rerope=ReRoPE,
    leaky_rerope=LeakyReRoPE,
    inv_leaky_rerope=InvLeakyReRoPE,
    self_extend=SelfExtend,
)
