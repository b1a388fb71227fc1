"""Rectangular arrays from sequences of different lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def pad_sequences(
    sequences: Sequence[Any],
    length: int | Sequence[int] | None = None,
    value: float = 0,
    num_axes: int = 1,
    side: str = "right",
) -> np.ndarray:
    """Cuts and pads sequences to one shape and stacks them.

    Args:
        sequences: sequences of numbers, or nested sequences or arrays when `num_axes`
            is greater than 1.
        length: the length after padding, one for each padded axis. The longest by
            default. Longer sequences lose their end.
        value: the number to pad with.
        num_axes: how many leading axes of each sequence are padded. Further axes must
            agree.
        side: `"right"` or `"left"`, where the padding goes.

    Returns:
        An array `(len(sequences), length, ...)` of the sequences' dtype.

    Raises:
        ValueError: for another `side`, a wrong number of lengths, or no sequences and
            no `length`.

    Example:

    >>> pad_sequences([[1, 2, 3], [4]]).tolist()
    [[1, 2, 3], [4, 0, 0]]
    """
    if side not in ("right", "left"):
        raise ValueError(f"`side` must be 'right' or 'left', not {side!r}.")
    rows = [np.asarray(sequence) for sequence in sequences]
    if length is None:
        if not rows:
            raise ValueError("There are no sequences to take the length from.")
        lengths = np.max([row.shape[:num_axes] for row in rows], axis=0).tolist()
    else:
        lengths = [length] if isinstance(length, int) else list(length)
    if len(lengths) != num_axes or num_axes < 1:
        raise ValueError(
            f"{len(lengths)} lengths were given for {num_axes} padded axes."
        )
    rest = rows[0].shape[num_axes:] if rows else ()
    # An empty list is a float array to NumPy, which must not turn ids into floats.
    filled = [row.dtype for row in rows if row.size]
    dtype = np.result_type(*(filled or [np.dtype(np.int64)]), value)
    padded = np.full((len(rows), *lengths, *rest), value, dtype)
    for target, row in zip(padded, rows, strict=True):
        row = row[tuple(slice(n) for n in lengths)]
        sizes = zip(row.shape, lengths, strict=False)
        if side == "right":
            target[tuple(slice(size) for size, _ in sizes)] = row
        else:
            target[tuple(slice(n - size, n) for size, n in sizes)] = row
    return padded


def pad_rows(
    values: Sequence[int],
    lengths: np.ndarray,
    buckets: Sequence[int],
    value: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lays rows, given one after the other, out in one array.

    Args:
        values: the ids of all rows.
        lengths: int array `(batch,)`, how many of them each row has.
        buckets: the widths allowed, in ascending order; none means that of the longest
            row.
        value: the id to pad with, or None if there is none.

    Returns:
        An int32 array `(batch, width)`, and a bool one, True for real ids.

    Raises:
        ValueError: if padding is needed and `value` is None.
    """
    width = int(lengths.max(initial=0))
    if buckets:
        width = next(bucket for bucket in buckets if bucket >= width)
    mask = np.arange(width) < lengths[:, None]
    if value is None and not mask.all():
        raise ValueError(
            "The texts differ in length, and the tokenizer has no `pad_token` to fill "
            "the rows up."
        )
    padded = np.full(mask.shape, 0 if value is None else value, np.int32)
    padded[mask] = values
    return padded, mask
