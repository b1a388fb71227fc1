"""Checks of what users hand to the tokenizer, with errors that say what to do."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def as_text(value: Any, name: str = "text") -> str:
    """Takes a str, or bytes that are valid UTF-8.

    Args:
        value: what the user gave.
        name: how to call it in an error.

    Returns:
        A str.

    Raises:
        TypeError: if it is neither.
        ValueError: if bytes are not UTF-8.
    """
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"`{name}` is bytes that are not UTF-8 (at byte {error.start}). Decode "
                "it with its own encoding first, such as `value.decode('gb18030')`, or "
                "with `errors='replace'`."
            ) from error
    hint = "convert it with `str`"
    if value is None or value != value:
        hint = "a missing value? Use an empty str"
    elif isinstance(value, list | tuple | np.ndarray):
        hint = "for a batch call the tokenizer itself, `tokenizer(texts)`"
        if name != "text":
            hint = "pass second texts as `pairs`, and one str in each place"
    raise TypeError(f"`{name}` must be a str, not {type(value).__name__}: {hint}.")


def as_batch(values: Any, name: str) -> list[str]:
    """Takes a sequence of texts, or one text as a batch of one.

    Args:
        values: what the user gave.
        name: how to call it in an error.

    Returns:
        A list of str.

    Raises:
        TypeError: if it is no sequence of texts.
        ValueError: if bytes are not UTF-8.
    """
    if isinstance(values, str | bytes):
        values = [values]
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(
                f"`{name}` must be one-dimensional, not of shape {values.shape}."
            )
        values = values.tolist()
    if isinstance(values, Mapping | set) or not isinstance(values, Iterable):
        raise TypeError(
            f"`{name}` must be a sequence of str, not {type(values).__name__}."
        )
    return [as_text(value, f"{name}[{i}]") for i, value in enumerate(values)]


def as_integer(value: Any, name: str) -> int:
    """Takes an integer of any kind, but not a bool.

    Args:
        value: what the user gave.
        name: how to call it in an error.

    Returns:
        An int.

    Raises:
        TypeError: if it is not an integer.
    """
    if not isinstance(value, bool | np.bool_):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"`{name}` must be an int, not {value!r}.")


def as_length(value: Any, name: str) -> int:
    """Takes a length: an integer of 0 or more.

    Args:
        value: what the user gave.
        name: how to call it in an error.

    Returns:
        An int.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is negative.
    """
    length = as_integer(value, name)
    if length < 0:
        raise ValueError(f"`{name}` must be 0 or more, not {length}.")
    return length


def as_buckets(length: Any) -> list[int]:
    """Takes one length or several.

    Args:
        length: None, an int, or a sequence of int.

    Returns:
        A sorted list of int, empty for None.

    Raises:
        TypeError: if a length is not an integer.
        ValueError: if a length is negative, or the sequence is empty.
    """
    if length is None:
        return []
    if isinstance(length, str) or not isinstance(length, Iterable):
        return [as_length(length, "length")]
    buckets = sorted(as_length(bucket, "length") for bucket in length)
    if not buckets:
        raise ValueError("`length` has no bucket; pass None for the longest row.")
    return buckets


def as_ids(values: Any, size: int, name: str) -> list[int]:
    """Takes one sequence of ids of a vocabulary.

    Args:
        values: a sequence or an integer array.
        size: the number of ids there are.
        name: how to call it in an error.

    Returns:
        A list of int.

    Raises:
        TypeError: if an id is not an integer.
        ValueError: if an id is out of range, or the sequence is nested.
    """
    if isinstance(values, Iterable) and not isinstance(values, Sequence | np.ndarray):
        values = list(values) if not hasattr(values, "__array__") else values
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` must be one sequence of ids, not of shape {array.shape}: go "
            "through the rows one by one."
        )
    if not array.size:
        return []
    if array.dtype.kind not in "iu":
        wrong = next((v for v in values if not _is_integer(v)), values[0])
        raise TypeError(
            f"`{name}` must be integers; {wrong!r} is {type(wrong).__name__}. Take the "
            "argmax of scores, or cast with `astype('int32')`."
        )
    outside = np.flatnonzero((array < 0) | (array >= size))
    if outside.size:
        raise ValueError(
            f"`{name}` has {array[outside[0]]} at position {outside[0]}; the "
            f"vocabulary has the ids 0 to {size - 1}."
        )
    return array.tolist()


def _is_integer(value):
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
