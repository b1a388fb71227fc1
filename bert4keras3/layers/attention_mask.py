"""Structural masks: which query may see which key, combined with the padding mask.

The masks without arguments are in `structural_masks`; here are those of a certain
reach, and finding a mask by its name.
"""

import keras
from keras import ops

from bert4keras3.layers.document_mask import CausalDocumentMask, DocumentMask
from bert4keras3.layers.structural_masks import (
    AttentionMask,
    BidirectionalMask,
    CausalMask,
    HalfHeadsMask,
    PrefixMask,
    ReverseCausalMask,
    row_offsets,
)
from bert4keras3.naming import resolve, serialize_scheme, whole_number


class LocalMask(AttentionMask):
    """Base class of the masks that `attend_in_blocks` computes without `T x T`.

    A query sees the keys at certain distances (`visible`) and, beyond these, those of
    the first `num_sinks` keys that lie at least `window` behind it.

    Args:
        window: how far a query sees, at least 1.

    Raises:
        ValueError: a window of less than 1.
    """

    two_way = False
    num_sinks = 0

    def __init__(self, window, **kwargs):
        super().__init__(**kwargs)
        self.window = whole_number(
            window,
            "window",
            "the number of keys that a query sees backwards, itself included",
        )

    def visible(self, distances):
        """Which distances `i - j` are inside the window."""
        if self.two_way:
            distances = ops.abs(distances)
        return ops.logical_and(distances >= 0, distances < self.window)

    def visible_sinks(self, distances):
        """Which of the first keys are seen at `i - j` though they left the window."""
        return distances >= self.window

    def structure(self, padding_mask, segment_ids=None):
        distances = row_offsets(padding_mask)
        inside = self.visible(distances)
        if not self.num_sinks:
            return inside
        sinks = ops.arange(ops.shape(padding_mask)[1]) < self.num_sinks
        sinks = ops.logical_and(sinks, self.visible_sinks(distances))
        return ops.logical_or(inside, sinks)

    def get_config(self):
        return {**super().get_config(), "window": self.window}


@keras.saving.register_keras_serializable(package="bert4keras3")
class WindowMask(LocalMask):
    """Local attention: `M[i, j] = 0 <= i - j < window`, or `|i - j| < window`.

    A row sees `window` keys, itself included, or `2 * window - 1` in both directions.
    Distances are places in the row, not position ids; padding is hidden as a key. In
    blocks (`window=` of the attentions) `T` places cost `2 T window` products. The
    two-way band of https://kexue.fm/archives/9431 is drawn there without a number; this
    one is the one-way window and its mirror image.

    Args:
        window: how far a query sees, at least 1.
        two_way: also look ahead.

    Raises:
        ValueError: a window of less than 1.

    Example:

    >>> np.array(WindowMask(2)(np.ones((1, 4), bool)))[0, 0].astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])
    """

    def __init__(self, window, two_way=False, **kwargs):
        super().__init__(window, **kwargs)
        self.two_way = two_way
        self.is_causal = not two_way

    def get_config(self):
        return {**super().get_config(), "two_way": self.two_way}


@keras.saving.register_keras_serializable(package="bert4keras3")
class LambdaMask(LocalMask):
    """Λ-mask: a causal window, and the first keys, which every later query sees.

    `M[i, j] = j <= i and (j < num_sinks or i - j < window)`. Decoders put much of their
    attention on the first tokens; a window that loses them fails. Padding is hidden as
    a key; the sinks are the first places of the row, so pad on the right. In blocks
    (`window=` of the attentions) `T` places cost `T (2 window + num_sinks)` products.
    Sources: https://arxiv.org/abs/2308.16137 (LM-Infinite),
    https://arxiv.org/abs/2309.17453 (StreamingLLM), https://kexue.fm/archives/9948.

    Args:
        window: how far back a query sees, itself included, at least 1.
        num_sinks: how many keys at the start stay visible, at least 1.

    Raises:
        ValueError: a window or a number of sinks of less than 1.

    Example:

    >>> np.array(LambdaMask(2, num_sinks=1)(np.ones((1, 4), bool)))[0, 0].astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 1, 0],
           [1, 0, 1, 1]])
    """

    is_causal = True

    def __init__(self, window, num_sinks=4, **kwargs):
        super().__init__(window, **kwargs)
        self.num_sinks = whole_number(
            num_sinks,
            "num_sinks",
            "the number of keys at the start that stay visible (without any it is a "
            "WindowMask)",
        )

    def get_config(self):
        return {**super().get_config(), "num_sinks": self.num_sinks}


@keras.saving.register_keras_serializable(package="bert4keras3")
class BlockwiseCausalMask(AttentionMask):
    """BCA: a query sees its own block causally, and the block before.

    `M[i, j] = j <= i and i // block - j // block <= 1`. With blocks of half the
    training length no query sees more keys than in training; for prediction only. A row
    sees between `block + 1` and `2 * block` keys once it is past the first block.
    Blocks are counted in places, padding is hidden as a key, cost `T * S` (the mask is
    whole).
    Source: XPOS, https://arxiv.org/abs/2212.10554; https://kexue.fm/archives/9431.

    Args:
        block: places in a block, half the training length; at least 1.

    Raises:
        ValueError: a block of less than 1.

    Example:

    >>> np.array(BlockwiseCausalMask(1)(np.ones((1, 4), bool)))[0, 0].astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])
    """

    is_causal = True

    def __init__(self, block, **kwargs):
        super().__init__(**kwargs)
        self.block = whole_number(
            block, "block", "the places of a block, half the training length"
        )

    def structure(self, padding_mask, segment_ids):
        blocks = ops.arange(ops.shape(padding_mask)[1]) // self.block
        back = ops.expand_dims(blocks, 1) - ops.expand_dims(blocks, 0)
        return ops.logical_and(row_offsets(padding_mask) >= 0, back <= 1)

    def get_config(self):
        return {**super().get_config(), "block": self.block}


ATTENTION_MASKS = {
    "bidirectional": BidirectionalMask,
    "causal": CausalMask,
    "causal_documents": CausalDocumentMask,
    "documents": DocumentMask,
    "half_heads": HalfHeadsMask,
    "prefix": PrefixMask,
    "reverse_causal": ReverseCausalMask,
}


def get(identifier):
    """Return an attention mask layer for a name, a config or an instance."""
    return resolve(identifier, ATTENTION_MASKS, "attention mask", AttentionMask)


def get_window(identifier):
    """Return a `LocalMask` for an instance, a config, or the size of a one-way window.

    Example:

    >>> get_window(16).window, get_window(LambdaMask(16)).num_sinks
    (16, 4)
    """
    if identifier is None:
        return None
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        return WindowMask(identifier)
    return resolve(identifier, {}, "window", LocalMask)


def serialize(mask):
    """Config of a mask, or `None`, that `get` reads back."""
    return serialize_scheme(mask)
