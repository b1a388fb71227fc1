"""Which tokens go when texts are too long."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def truncate_sequences(
    max_length: int, index: int | Sequence[int], *sequences: Sequence[T]
) -> list[list[T]]:
    """Shortens sequences until they have at most `max_length` items together.

    An item is removed from the longest sequence (the first of them, if several are
    longest) until the total fits. This equals bert4keras, but takes time linear in the
    lengths, leaves its inputs alone and returns every sequence, empty ones too.

    Args:
        max_length: the greatest total length.
        index: where items are removed: -1 takes the last, -2 the last but one (so that
            a final `[SEP]` stays), 1 the second (so that an initial `[CLS]` stays). One
            int, or one for each sequence.
        *sequences: the sequences.

    Returns:
        A list with a new list for each sequence.

    Raises:
        ValueError: if `max_length` is negative, or so small that there is no item left
            at `index` to remove.

    Example:

    >>> truncate_sequences(5, -2, ["a", "b", "c", "[SEP]"], ["d", "[SEP]"])
    [['a', 'b', '[SEP]'], ['d', '[SEP]']]
    """
    lengths = [len(sequence) for sequence in sequences]
    if isinstance(index, int):
        indices = [index] * len(sequences)
    else:
        indices = list(index)
        if len(indices) != len(sequences):
            raise ValueError(
                f"There are {len(indices)} indices for {len(sequences)} sequences: "
                "pass one int for all, or one for each."
            )
    kept = truncated_lengths(max_length, lengths)
    return [
        remove_items(sequence, where, length)
        for sequence, where, length in zip(sequences, indices, kept, strict=True)
    ]


def truncated_lengths(max_length: int, lengths: Sequence[int]) -> list[int]:
    """Shares a total length out, taking from the longest first.

    Args:
        max_length: the greatest total.
        lengths: the lengths before.

    Returns:
        A list of the lengths after.

    Raises:
        ValueError: if `max_length` is negative.
    """
    if max_length < 0:
        raise ValueError(f"`max_length` must be 0 or more, not {max_length}.")
    excess = sum(lengths) - max_length
    if excess <= 0:
        return list(lengths)
    # The greatest common ceiling that already fits; one above it does not.
    low, high = 0, max(lengths)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(length, middle) for length in lengths) <= max_length:
            low = middle
        else:
            high = middle - 1
    kept = [min(length, low) for length in lengths]
    # The last item above the ceiling goes from the first sequence first, so what room
    # is left belongs to the last ones.
    room = max_length - sum(kept)
    for i in reversed(range(len(kept))):
        if room and lengths[i] > low:
            kept[i] += 1
            room -= 1
    return kept


def remove_items(sequence: Sequence[T], index: int, length: int) -> list[T]:
    """Removes the item at `index` again and again until `length` items are left.

    Args:
        sequence: the items.
        index: the position, from the end if negative.
        length: how many to keep.

    Returns:
        A new list.

    Raises:
        ValueError: if there comes a time when no item is at `index`.
    """
    items = list(sequence)
    removed = len(items) - length
    if removed <= 0:
        return items
    start = index if index >= 0 else length + 1 + index
    if not 0 <= start <= length:
        raise ValueError(
            f"Cannot shorten {len(items)} items to {length} by removing at {index}: "
            "the position no longer exists. Use a greater `max_length`, or a position "
            "nearer to the end."
        )
    del items[start : start + removed]
    return items
