"""Normalizers: from attention logits to attention weights.

A normalizer has two hooks. `temperature` gives a factor per query row that depends
only on how many keys the row can see; the attention core multiplies it into the
logits, added biases among them, before masking. `__call__` turns masked float32 logits
into weights. A new normalizer is one class and one line in `NORMALIZERS`.
"""

import keras
from keras import ops

from bert4keras3.naming import resolve
from bert4keras3.ops import log_length_scale


class AttentionNormalizer:
    """Base class: no temperature, and `__call__` to be written."""

    def temperature(self, num_keys):
        """Factor of the logits, shaped like `num_keys`, or `None` for 1."""
        return None

    def __call__(self, logits, num_keys):
        """Weights of the shape of `logits`.

        Args:
            logits: float32 `(B, N, T, S)`; hidden keys hold a large negative number.
            num_keys: float32, visible keys per row, broadcasts to `(B, N, T, 1)`.
        """
        raise NotImplementedError

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), tuple(sorted(self.get_config().items()))))


def softmax(logits):
    """Softmax over the last axis, without Keras's warning for an axis of one key."""
    if logits.shape[-1] == 1:
        return ops.ones_like(logits)
    return ops.softmax(logits, axis=-1)


@keras.saving.register_keras_serializable(package="bert4keras3")
class Softmax(AttentionNormalizer):
    """`a_ij = exp(l_ij) / sum_j exp(l_ij)`.

    Example:

    >>> float(Softmax()(np.zeros((1, 1, 1, 4), "float32"), 4.0)[0, 0, 0, 0])
    0.25
    """

    def __call__(self, logits, num_keys):
        return softmax(logits)


@keras.saving.register_keras_serializable(package="bert4keras3")
class EntropyInvariantSoftmax(AttentionNormalizer):
    """Softmax with log-n scaled logits, bert4keras's `softmax_plus`.

    `a = softmax(l * ln(max(n, min_length)) / ln(base_length))`, where `n` counts the
    keys that the query row can see, padding and structural mask together. The scale is
    above 1 for rows longer than `base_length`.

    Source: https://kexue.fm/archives/8823, https://kexue.fm/archives/9034. The floor of
    16 came with bert4keras 0.11.5; GAU-α was trained and published without it, and
    `min_length=1` gives those numbers for rows of fewer than 16 tokens.

    Args:
        base_length: length at which the scale is 1.
        min_length: floor of `n`, at least 1.

    Raises:
        ValueError: `base_length` of at most 1, or `min_length` below 1.

    Example:

    >>> round(float(EntropyInvariantSoftmax().temperature(4096.0)), 3)
    1.333
    """

    def __init__(self, base_length=512, min_length=16):
        if base_length <= 1:
            raise ValueError(
                f"`base_length` must be above 1 (its logarithm divides). "
                f"Received {base_length}."
            )
        if min_length < 1:
            raise ValueError(
                f"`min_length` must be at least 1 (1 means no floor). "
                f"Received {min_length}."
            )
        self.base_length = base_length
        self.min_length = min_length

    def temperature(self, num_keys):
        return log_length_scale(num_keys, self.base_length, self.min_length)

    def __call__(self, logits, num_keys):
        return softmax(logits)

    def get_config(self):
        return {"base_length": self.base_length, "min_length": self.min_length}


@keras.saving.register_keras_serializable(package="bert4keras3")
class SquaredReLU(AttentionNormalizer):
    """`a_ij = relu(l_ij)^2 / n_i`, with `n_i` the keys that row `i` can see.

    Source: FLASH, https://arxiv.org/abs/2202.10447, in the form of
    https://kexue.fm/archives/8934. Padding does not count. A model that was trained at
    one length does better at others with that length as a constant:
    https://kexue.fm/archives/9019.

    Args:
        length: a constant in place of `n_i`; `None` for the keys of each row. No length
            suits every model, so this form has no name: give an instance.

    Raises:
        ValueError: `length` is not positive.

    Example:

    >>> float(SquaredReLU(length=8)(np.full((1, 1, 1, 4), 2.0), 4.0)[0, 0, 0, 0])
    0.5
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
        return ops.square(ops.relu(logits)) / length

    def get_config(self):
        return {"length": self.length}


# The module of variants adds its own names; `layers/__init__.py` imports it.
NORMALIZERS = {
    "softmax": Softmax,
    "entropy_invariant_softmax": EntropyInvariantSoftmax,
    "softmax_plus": EntropyInvariantSoftmax,
    "squared_relu": SquaredReLU,
}


def get(identifier):
    """Return a normalizer for a name, a serialized config or an instance."""
    return resolve(identifier, NORMALIZERS, "attention normalizer", AttentionNormalizer)


def serialize(normalizer):
    """Config of a normalizer that `get` reads back."""
    return keras.saving.serialize_keras_object(normalizer)
