"""Initializer of RoFormerV2 and GAU-α."""

import contextlib
import contextvars

import keras

_SKIPPED = contextvars.ContextVar("initializers_skipped", default=False)


@contextlib.contextmanager
def _skipping(value):
    token = _SKIPPED.set(value)
    try:
        yield
    finally:
        _SKIPPED.reset(token)


def initializers_skipped():
    """Build models whose every weight is about to be overwritten.

    Inside, weights start at zero: drawing 100 million random numbers that nobody reads
    costs more than reading a checkpoint. Configs keep the real initializers. Whoever
    uses this must see to it that every weight gets a value.
    """
    return _skipping(True)


def initializers_kept():
    """Undo `initializers_skipped` for a part whose weights no checkpoint holds."""
    return _skipping(False)


def fresh(initializer):
    """A copy with a seed of its own, when the initializer was given no seed.

    A Keras initializer draws the same values at every call, so layers of equal shape
    that share one instance would start from equal weights.
    """
    if _SKIPPED.get():
        return keras.initializers.Zeros()
    return initializer.clone() if hasattr(initializer, "clone") else initializer


@keras.saving.register_keras_serializable(package="bert4keras3")
class DepthScaledTruncatedNormal(keras.initializers.TruncatedNormal):
    """Truncated normal that shrinks with the width and the depth of the model.

    `stddev = 1.13684723 * gain / sqrt(fan) * num_layers ** (-1 / order)`. The constant
    undoes the standard deviation lost by cutting at two sigma. `fan` is the input size
    of a kernel; for an embedding table (more than 10000 or fewer than 10 rows) it is
    the width. RoFormerV2 uses order 2, GAU-α order 3, after
    https://kexue.fm/archives/8978.

    Args:
        num_layers: depth of the model.
        order: 2 for attention plus feed-forward, 3 for gated attention units.
        gain: extra factor.
        seed: integer, or `None` for a random one.
    """

    def __init__(self, num_layers, order=2, gain=1.0, seed=None):
        super().__init__(seed=seed)
        self.num_layers = num_layers
        self.order = order
        self.gain = gain

    def stddev_for(self, shape):
        """Standard deviation (before cutting) for a variable of this shape."""
        is_table = shape[0] > 10000 or shape[0] < 10
        fan = shape[1] if is_table else shape[0]
        depth = self.num_layers ** (-1.0 / self.order)
        return 1.13684723 * self.gain * depth / fan**0.5

    def __call__(self, shape, dtype=None):
        return keras.random.truncated_normal(
            shape, stddev=self.stddev_for(shape), dtype=dtype, seed=self.seed
        )

    def get_config(self):
        return {
            "num_layers": self.num_layers,
            "order": self.order,
            "gain": self.gain,
            "seed": super().get_config()["seed"],
        }
