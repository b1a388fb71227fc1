"""Local masks: each query sees a bounded number of keys, computed in blocks."""

import keras
from keras import ops

from bert4keras3.layers.attention_mask import AttentionMask
from bert4keras3.naming import resolve


class LocalMask(AttentionMask):
    """Base class of the masks that `window_attention` computes in blocks.

    `window` is the length of a block. A block of queries meets its own keys and those
    of the block before; if `two_way`, also those of the block after; and the first
    `num_sinks` keys of the row. A subclass says in `visible` which of them each query
    sees. Distances are places in the row, not position ids.
    """

    two_way = False
    num_sinks = 0

    def __init__(self, window, **kwargs):
        super().__init__(**kwargs)
        self.window = whole_number(window, "window", 1)

    def visible(self, queries, keys):
        """Which keys the queries see, by places in the row; the shapes broadcast."""
        raise NotImplementedError

    def structure(self, padding_mask, segment_ids):
        places = ops.arange(ops.shape(padding_mask)[1])
        return self.visible(ops.expand_dims(places, 1), ops.expand_dims(places, 0))

    def get_config(self):
        return {**super().get_config(), "window": self.window}


def whole_number(value, name, least):
    """The value as an int.

    Raises:
        ValueError: it is no whole number, or below `least`.
    """
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}. Received {value}."
        )
    return int(value)


@keras.saving.register_keras_serializable(package="bert4keras3")
class WindowMask(LocalMask):
    """Local attention: `M[i, j] = 0 <= i - j < window`, or `|i - j| < window`.

    A row sees `window` keys, itself included, or `2 * window - 1` in both directions.
    Time and memory grow with `T * window`. Given to a model that was trained at the
    length `window`, it is the strong baseline of https://kexue.fm/archives/9431, whose
    two-way band is drawn there without a number; this one is the one-way window and
    its mirror image.

    Args:
        window: how far a query sees, at least 1.
        two_way: also look ahead.

    Raises:
        ValueError: a window of less than 1.
    """

    def __init__(self, window, two_way=False, **kwargs):
        super().__init__(window, **kwargs)
        self.two_way = two_way
        self.is_causal = not two_way

    def visible(self, queries, keys):
        distances = queries - keys
        if self.two_way:
            distances = ops.abs(distances)
        return ops.logical_and(distances >= 0, distances < self.window)

    def get_config(self):
        return {**super().get_config(), "two_way": self.two_way}


@keras.saving.register_keras_serializable(package="bert4keras3")
class LambdaMask(LocalMask):
    """A window and the first tokens of the row: `0 <= i - j`, and `j < s or i - j < w`.

    Causal. A language model that was trained on all keys leans on the first of them,
    and fails under a plain window, which hides these; with some of them as sinks it
    does not. Each query sees at most `window + num_sinks` keys. Sources:
    https://arxiv.org/abs/2308.16137, https://arxiv.org/abs/2309.17453,
    https://kexue.fm/archives/9948.

    Args:
        window: how far a query sees, itself included; at least 1.
        num_sinks: how many first tokens all queries see.

    Raises:
        ValueError: a window of less than 1, or a negative number of sinks.
    """

    is_causal = True

    def __init__(self, window, num_sinks=4, **kwargs):
        super().__init__(window, **kwargs)
        self.num_sinks = whole_number(num_sinks, "num_sinks", 0)

    def visible(self, queries, keys):
        near = ops.logical_or(keys < self.num_sinks, queries - keys < self.window)
        return ops.logical_and(keys <= queries, near)

    def get_config(self):
        return {**super().get_config(), "num_sinks": self.num_sinks}


@keras.saving.register_keras_serializable(package="bert4keras3")
class BlockwiseCausalMask(LocalMask):
    """Blockwise causal attention, BCA: the query's own block and the one before.

    `M[i, j] = j <= i and i // window - j // window <= 1`. Meant for prediction, with
    blocks of half the length of training. Source: XPOS,
    https://arxiv.org/abs/2212.10554.

    Args:
        window: length of a block, at least 1.

    Raises:
        ValueError: a block of less than 1.
    """

    is_causal = True

    def visible(self, queries, keys):
        near = queries // self.window - keys // self.window <= 1
        return ops.logical_and(keys <= queries, near)


def get(identifier):
    """Return a local mask for an instance, a config, or the size of a one-way window.

    Raises:
        ValueError: a size of less than 1.
        TypeError: another mask, which cannot be computed in blocks.
    """
    if identifier is None:
        return None
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        return WindowMask(identifier)
    return resolve(identifier, {}, "local mask", LocalMask)
