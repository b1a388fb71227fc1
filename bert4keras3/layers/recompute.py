"""Computing parts of a layer again in the backward pass instead of keeping them."""

import contextlib

import keras

__all__ = ["Dropout", "recomputed"]


@keras.saving.register_keras_serializable(package="bert4keras3")
class Dropout(keras.layers.Dropout):
    """Keras's dropout, which can draw again what it drew before.

    A part that is computed twice must drop the same values both times, so its seeds
    are drawn outside of it; see `recomputed`.
    """

    given_seeds = None

    def call(self, inputs, training=False):
        if not (training and self.rate > 0):
            return inputs
        seed = self.seed_generator
        if self.given_seeds is not None:
            seed = _GivenSeed(next(self.given_seeds))
        return keras.random.dropout(inputs, self.rate, seed=seed)


class _GivenSeed(keras.random.SeedGenerator):
    """A generator that gives one seed, a tensor; it has no state."""

    def __init__(self, seed):  # the base class would make a variable
        self._given = seed
        self._initial_seed = None

    def next(self, ordered=True):
        return self._given


def recomputed(function, wanted, dropouts=(), training=None, **tensors):
    """Return `function(**tensors, training=training)`, keeping only the tensors.

    While training, if wanted, the backward pass calls the function again, on the same
    dropout masks, so that nothing it computed on the way is kept in memory
    (https://arxiv.org/abs/1604.06174). Under XLA, products whose result is not needed
    for a gradient are not computed again.

    `keras.RematScope(mode="full")` fails for layers that are called with keywords, and
    `keras.remat` alone would drop other values the second time.

    Args:
        function: takes the tensors and `training` by name, and gives one tensor.
        wanted: bool.
        dropouts: the `Dropout` layers within, in the order of their calls; one that is
            called twice stands twice.
        training: bool.
        **tensors: tensors or `None`. Whatever has a gradient must be among them, but
            for weights.
    """
    if not (wanted and training):
        return function(**tensors, training=training)
    # Those that may have a gradient; TensorFlow takes no booleans here.
    names = [name for name, tensor in tensors.items() if _is_float(tensor)]
    active = [dropout for dropout in dropouts if dropout.rate > 0]
    seeds = [dropout.seed_generator.next() for dropout in active]

    def run(*arguments):
        given = dict(zip(names, arguments, strict=True))
        # Set within: the backward pass calls this when the first call is long over.
        with _given_seeds(active, seeds):
            return function(**{**tensors, **given}, training=True)

    return keras.remat(run)(*(tensors[name] for name in names))


def _is_float(tensor):
    return tensor is not None and keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(tensor.dtype)
    )


@contextlib.contextmanager
def _given_seeds(dropouts, seeds):
    """Let each dropout draw its seeds, in the order of its calls."""
    for dropout in dropouts:
        mine = zip(dropouts, seeds, strict=True)
        dropout.given_seeds = iter([seed for each, seed in mine if each is dropout])
    try:
        yield
    finally:
        for dropout in dropouts:
            dropout.given_seeds = None
