"""The base class of the structural masks, and the masks that need no arguments."""

import keras
from keras import ops

from bert4keras3.ops import merge_masks


class AttentionMask(keras.layers.Layer):
    """Base class of the structural masks: which query may see which key.

    A subclass writes `structure`; `call` combines it with the padding. A mask costs
    `T * S` booleans, per row of the batch or per head only where it differs there.

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
        """Booleans `(T, S)`, `(B, T, S)` or `(1, N, T, S)`, no padding; or `None`."""
        raise NotImplementedError

    def for_heads(self, num_heads):
        """The mask for an attention of `num_heads` heads, by default this one."""
        return self

    def heads_and_rows(self, length):
        """Sizes of the axes `N` and `T` of the mask of `length` tokens."""
        return 1, length

    def call(self, padding_mask, segment_ids=None):
        return merge_masks(padding_mask, self.structure(padding_mask, segment_ids))

    def compute_output_spec(self, padding_mask, segment_ids=None):
        batch, length = padding_mask.shape
        shape = (batch, *self.heads_and_rows(length), length)
        return keras.KerasTensor(shape, dtype="bool")


def row_offsets(padding_mask):
    """`i - j` for every query place `i` and key place `j`, int32 `(T, T)`."""
    places = ops.arange(ops.shape(padding_mask)[1])
    return ops.expand_dims(places, 1) - ops.expand_dims(places, 0)


@keras.saving.register_keras_serializable(package="bert4keras3")
class BidirectionalMask(AttentionMask):
    """Every query sees every token: an encoder.

    `M[i, j] = true`, so that only padding hides keys: `(B, 1, 1, S)`.

    Example:

    >>> tuple(BidirectionalMask()(np.ones((2, 5), bool)).shape)
    (2, 1, 1, 5)
    """

    def structure(self, padding_mask, segment_ids):
        return None

    def heads_and_rows(self, length):
        return 1, 1


@keras.saving.register_keras_serializable(package="bert4keras3")
class CausalMask(AttentionMask):
    """`M[i, j] = j <= i`: a language model.

    Example:

    >>> np.array(CausalMask()(np.ones((1, 3), bool)))[0, 0].astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """

    is_causal = True

    def structure(self, padding_mask, segment_ids):
        return row_offsets(padding_mask) >= 0


@keras.saving.register_keras_serializable(package="bert4keras3")
class ReverseCausalMask(AttentionMask):
    """`M[i, j] = j >= i`: from right to left.

    On some layers or heads beside causal ones it makes an encoder whose attention
    matrices are all triangular with a positive diagonal, so of full rank, while the
    whole still reads both ways. The last rows of a padded text see few keys, and a
    padded row none. Cost `T * S`, as for any full mask.
    Source: https://kexue.fm/archives/9529.

    Example:

    >>> np.array(ReverseCausalMask()(np.ones((1, 3), bool)))[0, 0].astype(int)
    array([[1, 1, 1],
           [0, 1, 1],
           [0, 0, 1]])
    """

    def structure(self, padding_mask, segment_ids):
        return row_offsets(padding_mask) <= 0


@keras.saving.register_keras_serializable(package="bert4keras3")
class PrefixMask(AttentionMask):
    """UniLM by segments: `M[i, j] = c_j <= c_i` with `c = cumsum(segment_ids)`.

    Segment 0 is read in both directions, the tokens of segment 1 from left to right.
    Source: https://arxiv.org/abs/1905.03197, https://kexue.fm/archives/6933.

    Raises:
        ValueError: called without `segment_ids`.

    Example:

    >>> mask = PrefixMask()(np.ones((1, 3), bool), np.array([[0, 0, 1]]))
    >>> np.array(mask)[0, 0].astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [1, 1, 1]])
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
class HalfHeadsMask(AttentionMask):
    """The first half of the heads is causal, the second half reverse causal.

    `M[h, i, j] = j <= i` for `h < N / 2`, else `j >= i`: an encoder that reads both
    ways with triangular attention matrices only. Padding is hidden as a key. The mask
    is `(B, N, T, S)`, `N` times that of the others.
    Source: https://kexue.fm/archives/9529.

    Args:
        num_heads: even number of heads `N`; `None` until `for_heads` gives it.

    Raises:
        ValueError: an odd number of heads, or none given when the mask is made.

    Example:

    >>> mask = HalfHeadsMask().for_heads(4)
    >>> tuple(mask(np.ones((1, 3), bool)).shape)
    (1, 4, 3, 3)
    """

    def __init__(self, num_heads=None, **kwargs):
        super().__init__(**kwargs)
        if num_heads is not None and (num_heads < 2 or num_heads % 2):
            raise ValueError(
                "The half-heads mask gives one half of the heads to each direction, so "
                f"it needs an even number of heads. Received num_heads={num_heads}. "
                "For an attention with a single head, such as gated attention, take "
                'the schedule "alternate_layers", which alternates layer by layer.'
            )
        self.num_heads = num_heads

    def for_heads(self, num_heads):
        if num_heads == self.num_heads:
            return self
        return type(self)(num_heads, name=self.name, dtype=self.dtype_policy)

    def heads_and_rows(self, length):
        return self._known_heads(), length

    def structure(self, padding_mask, segment_ids):
        num_heads = self._known_heads()
        forwards = ops.reshape(ops.arange(num_heads) < num_heads // 2, (1, -1, 1, 1))
        offsets = row_offsets(padding_mask)
        return ops.where(forwards, offsets >= 0, offsets <= 0)

    def _known_heads(self):
        if self.num_heads is None:
            raise ValueError(
                "The half-heads mask does not know how many heads there are. Call "
                "`mask.for_heads(num_heads)` first, or give `num_heads` to "
                "HalfHeadsMask."
            )
        return self.num_heads

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}
