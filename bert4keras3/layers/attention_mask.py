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

    def for_heads(self, num_heads):
        """This mask for an attention of so many heads."""
        return self

    def structure(self, padding_mask, segment_ids):
        """Boolean mask without padding, or `None` where it hides nothing.

        Of shape `(T, S)`, `(B, T, S)`, or `(1, N, T, S)` if the heads differ.
        """
        raise NotImplementedError

    def call(self, padding_mask, segment_ids=None):
        return merge_masks(padding_mask, self.structure(padding_mask, segment_ids))

    def compute_output_spec(self, padding_mask, segment_ids=None):
        batch, length = padding_mask.shape
        rows = 1 if isinstance(self, BidirectionalMask) else length
        heads = getattr(self, "num_heads", None) or 1
        return keras.KerasTensor((batch, heads, rows, length), dtype="bool")


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
class ReverseCausalMask(AttentionMask):
    """`M[i, j] = j >= i`: every query sees itself and what follows.

    Padding at the end of a row is hidden, so the last token sees itself alone. Source:
    https://kexue.fm/archives/9529, as one half of forward and backward attention.
    """

    def structure(self, padding_mask, segment_ids):
        positions = ops.arange(ops.shape(padding_mask)[1])
        return ops.expand_dims(positions, 0) >= ops.expand_dims(positions, 1)


@keras.saving.register_keras_serializable(package="bert4keras3")
class HalfHeadsMask(AttentionMask):
    """The first half of the heads looks back, the second half ahead.

    `M[h, i, j] = j <= i` for `h < num_heads / 2`, else `j >= i`. Each matrix of weights
    is triangular and so of full rank, and a layer still reads in both directions.
    Source: https://kexue.fm/archives/9529.

    Args:
        num_heads: even; `None` until `for_heads` has said it.

    Raises:
        ValueError: an odd number of heads, as the single one of a gated attention unit.
    """

    def __init__(self, num_heads=None, **kwargs):
        super().__init__(**kwargs)
        if num_heads is not None and (num_heads < 2 or num_heads % 2):
            raise ValueError(
                "Half of the heads look back and half ahead, so their number must be "
                f"even. Received {num_heads}. A gated attention unit has one head: "
                'use attention="alternate_layers" there.'
            )
        self.num_heads = num_heads

    def for_heads(self, num_heads):
        return HalfHeadsMask(num_heads)

    def structure(self, padding_mask, segment_ids):
        if self.num_heads is None:
            raise ValueError(
                "This mask differs from head to head: pass HalfHeadsMask(num_heads)."
            )
        positions = ops.arange(ops.shape(padding_mask)[1])
        queries, keys = ops.expand_dims(positions, 1), ops.expand_dims(positions, 0)
        back = ops.reshape(ops.arange(self.num_heads) < self.num_heads // 2, (-1, 1, 1))
        mask = ops.where(back, keys <= queries, keys >= queries)
        return ops.expand_dims(mask, 0)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


ATTENTION_MASKS = {
    "bidirectional": BidirectionalMask,
    "causal": CausalMask,
    "reverse_causal": ReverseCausalMask,
    "half_heads": HalfHeadsMask,
    "prefix": PrefixMask,
}


def get(identifier):
    """Return an attention mask layer for a name, a config or an instance."""
    return resolve(identifier, ATTENTION_MASKS, "attention mask", AttentionMask)


def serialize(mask):
    """Config of a mask, or `None`, that `get` reads back."""
    return serialize_scheme(mask)
