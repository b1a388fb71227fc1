"""Flat values of several rows in a TensorFlow graph: numbers and counts."""

from typing import Any

import tensorflow as tf


def places_in_rows(rows: Any, counts: Any) -> Any:
    """Number the members of each row, from 0.

    Args:
        rows: int32 `(N,)`, the row of each member, sorted.
        counts: int32 `(B,)`, the members of each row.
    """
    begins = tf.cumsum(counts, exclusive=True)
    return tf.range(tf.size(rows)) - tf.gather(begins, rows)


def counts_in_rows(rows: Any, num_rows: Any) -> Any:
    """Count the members of each row, int32 `(num_rows,)`."""
    counts = tf.math.bincount(rows, minlength=num_rows, maxlength=num_rows)
    return tf.reshape(counts, [num_rows])


def behind_first(sizes: Any) -> Any:
    """Say which places lie in a span, behind the first of it.

    Args:
        sizes: int32 `(N,)`, the size of the span that begins at each place; 1 if none
            does. Spans do not overlap.

    Returns:
        bool `(N,)`.
    """
    at = tf.range(tf.size(sizes))
    edges = tf.concat([tf.ones_like(at), -tf.ones_like(at)], 0)
    steps = tf.tensor_scatter_nd_add(
        tf.zeros([tf.size(sizes) + 1], "int32"),
        tf.concat([at + 1, at + sizes], 0)[:, None],
        edges,
    )
    return tf.cumsum(steps)[:-1] > 0
