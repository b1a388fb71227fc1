"""Batches that hold rows of several data sets at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

__all__ = ["mixed_sets", "rows_of_sets"]


def rows_of_sets(
    counts: dict[str, int], batch_size: int, temperature: float = 1.0
) -> dict[str, int]:
    """How many rows of a batch each set gets.

    The share of a set of `n_i` examples is `n_i^(1 / temperature)` by the sum of these;
    every set gets one row at least, and the rounding goes where the remainder is
    largest.

    Args:
        counts: number of examples by name.
        batch_size: rows of a batch in all.
        temperature: 1 for shares by size, larger for more equal ones.

    Returns:
        Numbers of rows by name, whose sum is `batch_size`.

    Raises:
        ValueError: an empty set, fewer rows than sets, `temperature` not positive.

    Example:

    >>> rows_of_sets({"news": 900, "names": 100}, 10)
    {'news': 9, 'names': 1}
    >>> rows_of_sets({"news": 900, "names": 100}, 12, temperature=2)
    {'news': 9, 'names': 3}
    """
    empty = [name for name, count in counts.items() if count < 1]
    if empty or not counts:
        raise ValueError(f"A set has one example at least. Received {counts}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive. Received {temperature}.")
    if batch_size < len(counts):
        raise ValueError(
            f"A batch of {batch_size} rows has no place for each of {len(counts)} "
            f"sets. Give a `batch_size` of {len(counts)} at least."
        )
    # Logarithms, since powers of large counts overflow at low temperatures.
    logs = np.log(list(counts.values())) / temperature
    shares = np.exp(logs - logs.max())
    wanted = shares / shares.sum() * batch_size
    rows = np.maximum(1, np.floor(wanted)).astype(int)
    while rows.sum() != batch_size:
        lacking = np.where(rows > 1, wanted - rows, np.inf)
        if rows.sum() < batch_size:
            rows[np.argmax(wanted - rows)] += 1
        else:
            rows[np.argmin(lacking)] -= 1
    return dict(zip(counts, rows.tolist(), strict=True))


def mixed_sets(
    sources: dict[str, tuple[int, Callable[[Any], Any]]],
    rows: dict[str, int],
    seed: int = 0,
    first_batch: int = 0,
) -> Any:
    """Batches with so many rows of each set, without end.

    Batch `n` takes the places `n r` to `n r + r - 1` of the endless row of passes over
    a set, where each pass is shuffled by itself. It depends on `n` and the seed alone.

    Args:
        sources: by name, how many rows there are, and a function from an array of row
            numbers to `(inputs, labels)` or `(inputs, labels, weights)`, nested arrays
            whose shapes are those of every call with as many rows.
        rows: rows of a batch by name, see `rows_of_sets`.
        seed: int.
        first_batch: int, the number of the batch to begin with.

    Returns:
        A `tf.data.Dataset` of `(inputs, labels, weights)`, dicts by name; the weights
        are those of the sets that have some.

    Raises:
        ValueError: shapes differ from batch to batch.

    Example:

    >>> numbers = np.arange(6)
    >>> take = lambda rows: (numbers[rows], numbers[rows] % 2)
    >>> batches = mixed_sets({"numbers": (6, take)}, {"numbers": 3})
    >>> first, second = [x["numbers"].numpy() for x, y, weights in batches.take(2)]
    >>> sorted({*first.tolist(), *second.tolist()}) == numbers.tolist()
    True
    """
    import tensorflow as tf

    # A batch lies in two passes over a set at the most, but where it has it all.
    @functools.lru_cache(maxsize=2 * len(sources))
    def order(which: int, number: int, count: int) -> Any:
        return np.random.default_rng((seed, which, number)).permutation(count)

    def places(number: int, which: int, name: str) -> Any:
        count = sources[name][0]
        at = number * rows[name] + np.arange(rows[name])
        return np.array([order(which, n // count, count)[n % count] for n in at])

    def take(number: Any) -> tuple[dict[str, Any], ...]:
        columns: tuple[dict[str, Any], ...] = ({}, {}, {})
        for which, (name, (_, rows_of)) in enumerate(sources.items()):
            parts = rows_of(places(int(number), which, name))
            for column, part in zip(columns, parts, strict=False):
                column[name] = keras.tree.map_structure(np.asarray, part)
        return columns

    example = take(first_batch)
    arrays = keras.tree.flatten(example)

    def batch(number: Any) -> Any:
        given = tf.numpy_function(
            lambda n: keras.tree.flatten(take(n)),
            [number],
            [array.dtype for array in arrays],
        )
        shaped = [
            tf.ensure_shape(tensor, array.shape)
            for tensor, array in zip(given, arrays, strict=True)
        ]
        return keras.tree.pack_sequence_as(example, shaped)

    options = tf.data.Options()
    options.deterministic = True
    return (
        tf.data.Dataset.counter(first_batch)
        .map(batch, num_parallel_calls=tf.data.AUTOTUNE)
        .with_options(options)
        .prefetch(tf.data.AUTOTUNE)
    )
