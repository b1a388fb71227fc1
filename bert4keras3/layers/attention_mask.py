"""Structural masks: which query may see which key, combined with the padding mask."""

import keras
from keras import ops

from bert4keras3.naming import resolve, serialize_scheme
from bert4keras3.ops import merge_masks


class AttentionMask(keras.layers.Layer):
    """Base class of the structural masks.

    `is_causal` says that no query sees a later key; some positions need that.

    Call arguments:
        padding_mask: `(B, T)`, true or 1 where the position holds a token.
        segment_ids: `(B, T)` integers, used by masks that depend on them.

    Returns:
        Boolean tensor that broadcasts to `(B, N, T, S)`, true where the query may
        attend to the key. Padding is hidden as a key and only as a key.
    """

    is_causal = False

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.built = True

    def structure(self, padding_mask, segment_ids):
        """`(T, S)` or `(B, T, S)` boolean mask without padding, or `None`."""
        raise NotImplementedError

    def call(self, padding_mask, segment_ids=None):
        return merge_masks(padding_mask, self.structure(padding_mask, segment_ids))

    def compute_output_spec(self, padding_mask, segment_ids=None):
        batch, length = padding_mask.shape
        rows = 1 if isinstance(self, BidirectionalMask) else length
        return keras.KerasTensor((batch, 1, rows, length), dtype="bool")


@keras.saving.register_keras_serializable(package="bert4keras3")
class BidirectionalMask(AttentionMask):
    """Every query sees every token: an encoder."""

    def structure(self, padding_mask, segment_ids):
        return None


@keras.saving.register_keras_serializable(package="bert4keras3")
class CausalMask(AttentionMask):
    """`M[i, j] = j <= i`: a language model."""

    is_causal = True

    def structure(self, padding_mask, segment_ids):
        positions = ops.arange(ops.shape(padding_mask)[1])
        return ops.expand_dims(positions, 0) <= ops.expand_dims(positions, 1)


@keras.saving.register_keras_serializable(package="bert4keras3")
class PrefixMask(AttentionMask):
    """UniLM by segments: `M[i, j] = c_j <= c_i` with `c = cumsum(segment_ids)`.

    Segment 0 is read in both directions, the tokens of segment 1 from left to right.
    Source: https://arxiv.org/abs/1905.03197, https://kexue.fm/archives/6933.
    """

    def structure(self, padding_mask, segment_ids):
        if segment_ids is None:
            raise ValueError(
                "The prefix mask is built from `segment_ids` (0 for the prefix, 1 for "
                "the part that is generated). Received segment_ids=None."
            )
        steps = ops.cumsum(ops.cast(segment_ids, "int32"), axis=1)
        return ops.expand_dims(steps, 1) <= ops.expand_dims(steps, 2)


@keras.saving.register_keras_serializable(package="bert4keras3")
class WindowMask(AttentionMask):
    """Local attention: `M[i, j] = 0 <= i - j < window`, or `|i - j| < window`.

    A row sees `window` keys, itself included, or `2 * window - 1` in both directions.
    Distances are places in the row, not position ids. The two-way band of
    https://kexue.fm/archives/9431 is drawn there without a number; this one is the
    one-way window and its mirror image.

    Args:
        window: how far a query sees, at least 1.
        two_way: also look ahead.

    Raises:
        ValueError: a window of less than 1.
    """

    def __init__(self, window, two_way=False, **kwargs):
        super().__init__(**kwargs)
        if int(window) != window or window < 1:
            raise ValueError(
                f"`window` must be a whole number of at least 1, the number of keys "
                f"that a query sees backwards, itself included. Received {window}."
            )
        self.window = int(window)
        self.two_way = two_way
        self.is_causal = not two_way

    def visible(self, distances):
        """Which distances `i - j` are inside the window."""
        if self.two_way:
            distances = ops.abs(distances)
        return ops.logical_and(distances >= 0, distances < self.window)

    def structure(self, padding_mask, segment_ids):
        positions = ops.arange(ops.shape(padding_mask)[1])
        return self.visible(
            ops.expand_dims(positions, 1) - ops.expand_dims(positions, 0)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "window": self.window,
            "two_way": self.two_way,
        }


ATTENTION_MASKS = {
    "bidirectional": BidirectionalMask,
    "causal": CausalMask,
    "prefix": PrefixMask,
}


def get(identifier):
    """Return an attention mask layer for a name, a config or an instance."""
    return resolve(identifier, ATTENTION_MASKS, "attention mask", AttentionMask)


def get_window(identifier):
    """Return a `WindowMask` for an instance, a config, or the size of a one-way one."""
    if identifier is None:
        return None
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        return WindowMask(identifier)
    return resolve(identifier, {}, "window", WindowMask)


def serialize(mask):
    """Config of a mask, or `None`, that `get` reads back."""
    return serialize_scheme(mask)
