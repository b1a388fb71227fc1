"""What two sequences have in common."""

from collections.abc import Sequence
from typing import Any


def longest_common_substring(
    first: Sequence[Any], second: Sequence[Any]
) -> tuple[int, tuple[int, int, int, int]]:
    """Finds the longest run of items that two sequences share.

    Takes time and memory of the order of the lengths' product and sum.

    Args:
        first: a str, or any sequence of comparable items.
        second: another.

    Returns:
        The length, and `(start, end, start, end)`: where it is in the first and in the
        second sequence. Of several the one that ends first in `first`, and then in
        `second`.

    Example:

    >>> longest_common_substring("今天天气", "明天天晴")
    (2, (1, 3, 1, 3))
    """
    length, place = 0, (0, 0, 0, 0)
    above = [0] * (len(second) + 1)
    for i, item in enumerate(first, 1):
        row = [0] * (len(second) + 1)
        for j, other in enumerate(second, 1):
            if item == other:
                row[j] = above[j - 1] + 1
                if row[j] > length:
                    length = row[j]
                    place = (i - length, i, j - length, j)
        above = row
    return length, place


def longest_common_subsequence(
    first: Sequence[Any], second: Sequence[Any]
) -> tuple[int, list[tuple[int, int]]]:
    """Finds the longest sequence of items, gaps allowed, that two sequences share.

    It tells, for instance, where the characters of an answer are in a passage that
    words it a little differently. Takes time and memory of the order of the product of
    the lengths.

    Args:
        first: a str, or any sequence of comparable items.
        second: another.

    Returns:
        The length, and that many pairs of indices `(in first, in second)`. Of several
        longest ones, one.

    Example:

    >>> longest_common_subsequence("中文字", "中字")
    (2, [(0, 0), (2, 1)])
    """
    # lengths[i][j]: the longest for the first i and j items.
    lengths = [[0] * (len(second) + 1)]
    for item in first:
        above, row = lengths[-1], [0]
        for j, other in enumerate(second):
            row.append(above[j] + 1 if item == other else max(above[j + 1], row[j]))
        lengths.append(row)
    i, j = len(first), len(second)
    pairs: list[tuple[int, int]] = []
    while i and j:
        if first[i - 1] == second[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif lengths[i][j - 1] > lengths[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return len(pairs), pairs[::-1]
