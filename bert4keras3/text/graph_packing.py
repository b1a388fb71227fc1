"""Rows of `[CLS] text [SEP] pair [SEP]` from flat tokens, in a TensorFlow graph."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from bert4keras3.text.graph_rows import counts_in_rows, places_in_rows
from bert4keras3.text.inputs import as_buckets


class Layout(NamedTuple):
    """Where the tokens of one or two texts go.

    Attributes:
        rows: int32 `(tokens,)` of each text, the row of each of its tokens.
        columns: int32 `(tokens,)` of each text, -1 for tokens that are cut off.
        lengths: int32 `(B,)` of each text, tokens that a row has of it, with those
            special ones that belong to it.
        width: int32 scalar.
    """

    rows: list[Any]
    columns: list[Any]
    lengths: list[Any]
    width: Any

    def table(self, values: Sequence[Any], table: Any) -> Any:
        """Put values of the tokens of each text into a table `(B, T)`."""
        for rows, columns, each in zip(self.rows, self.columns, values, strict=True):
            kept = tf.where(columns >= 0)[:, 0]
            places = tf.stack([tf.gather(rows, kept), tf.gather(columns, kept)], 1)
            table = tf.tensor_scatter_nd_update(table, places, tf.gather(each, kept))
        return table

    def special(self, start: int, end: int, padding: int) -> Any:
        """The table `(B, T)` of special tokens and padding."""
        at = tf.range(self.width)[None]
        ends = tf.cumsum(tf.stack(self.lengths, 1), axis=1)
        table = tf.where(at == 0, start, padding)
        table = tf.tile(table, [tf.size(self.lengths[0]), 1])
        for number in range(len(self.lengths)):
            table = tf.where(at == ends[:, number, None] - 1, end, table)
        return table


def lay_out(
    texts: Sequence[Any],
    num_rows: Any,
    max_length: int | None = None,
    length: int | Sequence[int] | None = None,
    truncate_from: str = "right",
) -> Layout:
    """Find the place of each token of one or two texts, and what is cut off.

    Args:
        texts: int32 `(tokens,)` of each text, the row of each token.
        num_rows: int32 scalar.
        max_length, length: see `GraphTokenizer`.
        truncate_from: `"right"` or `"left"`.

    Raises:
        ValueError: `max_length` has no room for the special tokens.
    """
    buckets = as_buckets(length)
    if buckets:
        max_length = min(max_length or buckets[-1], buckets[-1])
    special = 1 + len(texts)
    if max_length is not None and max_length < special:
        raise ValueError(
            f"max_length={max_length} has no room for {special} special tokens. "
            f"Use at least {special + len(texts)}."
        )
    counts = [counts_in_rows(rows, num_rows) for rows in texts]
    # `[CLS]` counts for both texts while they are cut, as in bert4keras.
    full = [count + 2 for count in counts]
    if max_length is not None:
        full = _shortened(full, max_length + len(texts) - 1)
    columns = []
    begins = tf.ones([num_rows], "int32")
    for rows, count, kept in zip(texts, counts, full, strict=True):
        place = places_in_rows(rows, count)
        if truncate_from == "left":
            place -= tf.gather(count - (kept - 2), rows)
        inside = (place >= 0) & (place < tf.gather(kept - 2, rows))
        columns.append(tf.where(inside, tf.gather(begins, rows) + place, -1))
        begins += kept - 1
    lengths = [full[0], *(each - 1 for each in full[1:])]
    # A width of 0 or 1 would leave nothing to take `[CLS]` from.
    width = tf.reduce_max(tf.concat([[2], tf.add_n(lengths)], 0))
    if buckets:
        at = tf.searchsorted(buckets, width[None], side="left")[0]
        width = tf.gather(buckets, at)
    return Layout(list(texts), columns, lengths, width)


def _shortened(lengths, most):
    """Lengths of one or two texts after tokens went, each from the longer one."""
    if len(lengths) == 1:
        return [tf.minimum(lengths[0], most)]
    first, second = lengths
    excess = first + second > most
    half = tf.fill(tf.shape(first), most // 2)
    low = tf.maximum(half, most - tf.minimum(first, second))
    a, b = tf.minimum(first, low), tf.minimum(second, low)
    # What room is left belongs to the second text.
    b += tf.where((a + b < most) & (second > low), 1, 0)
    return [tf.where(excess, a, first), tf.where(excess, b, second)]
