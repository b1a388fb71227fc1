"""Masks for rows that hold several documents, numbered in the padding mask."""

import keras
from keras import ops

from bert4keras3.layers.structural_masks import AttentionMask, row_offsets


@keras.saving.register_keras_serializable(package="bert4keras3")
class DocumentMask(AttentionMask):
    """A token sees its own document: `M[i, j] = p_i = p_j`.

    `p` is the padding mask, with the number of the document, from 1, where others have
    a 1: rows packed with several documents are read as if each had a row of its own,
    without padding to the longest. A padded row sees nothing. Rotary positions need no
    change: they only count distances, which are those within the document. Cost
    `B * T * S` booleans, a matrix per row of the batch.
    Source: the block-diagonal mask of packed rows, https://arxiv.org/abs/2107.02027.

    Example:

    >>> mask = DocumentMask()(np.array([[1, 1, 2, 0]]))
    >>> np.array(mask)[0, 0].astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 1, 0],
           [0, 0, 0, 0]])
    """

    def structure(self, padding_mask, segment_ids):
        number = ops.cast(padding_mask, "int32")
        return ops.equal(ops.expand_dims(number, 1), ops.expand_dims(number, 2))


@keras.saving.register_keras_serializable(package="bert4keras3")
class CausalDocumentMask(DocumentMask):
    """A token sees its own document up to itself: a language model on packed rows.

    `M[i, j] = j <= i and p_i = p_j`; see `DocumentMask`.

    Example:

    >>> mask = CausalDocumentMask()(np.array([[1, 1, 2, 2]]))
    >>> np.array(mask)[0, 0].astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 1, 0],
           [0, 0, 1, 1]])
    """

    is_causal = True

    def structure(self, padding_mask, segment_ids):
        same = super().structure(padding_mask, segment_ids)
        return ops.logical_and(row_offsets(padding_mask) >= 0, same)
