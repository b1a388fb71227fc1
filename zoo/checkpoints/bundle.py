"""The three protocol buffer messages inside a TF1 checkpoint index.

Only what `tensor_bundle.proto` of TensorFlow needs is spoken here:

    BundleHeaderProto  1 num_shards, 2 endianness, 3 version
    BundleEntryProto   1 dtype, 2 shape, 3 shard_id, 4 offset, 5 size,
                       6 crc32c (fixed32), 7 slices
    TensorShapeProto   2 dim {1 size}, 3 unknown_rank
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from zoo.checkpoints.checkpoint import CheckpointError, bfloat16_dtype
from zoo.checkpoints.table import read_varint, write_varint

_BFLOAT16 = 14
# Numbers of TensorFlow's DataType enumeration that are plain arrays.
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
_OTHER_DTYPES = {7: "string", 20: "resource", 21: "variant"}


@dataclass(frozen=True)
class Header:
    """Header of a checkpoint index: how many data files there are."""

    num_shards: int
    big_endian: bool


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies, and what it is."""

    dtype: np.dtype
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int


def parse_header(data: bytes, source: object) -> Header:
    """Parse the value stored under the empty key.

    Raises:
        CheckpointError: the header is damaged.
    """
    num_shards, big_endian = 0, False
    with _reading(source, "the header"):
        for field, value in _fields(data):
            if field == 1:
                num_shards = _integer(value)
            elif field == 2:
                big_endian = _integer(value) != 0
    return Header(num_shards, big_endian)


def parse_entry(name: str, data: bytes, source: object) -> Entry:
    """Parse the value stored under the name of a tensor.

    Raises:
        CheckpointError: the entry is damaged, or is a string, a resource, or one
            of several slices of a partitioned variable.
    """
    code, shape, numbers = 0, [], {3: 0, 4: 0, 5: 0, 6: 0}
    with _reading(source, f"the entry of {name!r}"):
        for field, value in _fields(data):
            if field == 1:
                code = _integer(value)
            elif field == 2:
                shape = _shape(_message(value))
            elif field == 7:
                raise CheckpointError(
                    f"{source}: {name!r} is stored in slices (a partitioned "
                    "variable). Restore and save it in TensorFlow without a "
                    "partitioner first."
                )
            elif field in numbers:
                numbers[field] = _integer(value)
    return Entry(
        _dtype(code, name, source),
        tuple(shape),
        shard=numbers[3],
        offset=numbers[4],
        size=numbers[5],
        crc32c=numbers[6],
    )


def header_bytes(num_shards: int) -> bytes:
    """Build a header; version 1 is what every reader since TF 1.0 expects."""
    return _number_field(1, num_shards) + _bytes_field(3, _number_field(1, 1))


def entry_bytes(entry: Entry) -> bytes:
    """Build an entry; fields that are zero are left out, as proto3 does."""
    shape = b"".join(_bytes_field(2, _number_field(1, size)) for size in entry.shape)
    return (
        _number_field(1, dtype_code(entry.dtype))
        + _bytes_field(2, shape)
        + _number_field(3, entry.shard)
        + _number_field(4, entry.offset)
        + _number_field(5, entry.size)
        + (b"\x35" + entry.crc32c.to_bytes(4, "little") if entry.crc32c else b"")
    )


def dtype_code(dtype: np.dtype) -> int:
    """Number of a numpy dtype in TensorFlow's DataType enumeration.

    Raises:
        CheckpointError: TensorFlow checkpoints cannot hold such numbers.
    """
    if dtype.name == "bfloat16":
        return _BFLOAT16
    for code, name in _DTYPES.items():
        if name == dtype.name:
            return code
    raise CheckpointError(
        f"dtype {dtype.name} cannot be written to a TensorFlow checkpoint; cast the "
        f"array to one of bfloat16, {', '.join(_DTYPES.values())}."
    )


def _dtype(code: int, name: str, source: object) -> np.dtype:
    if code == _BFLOAT16:
        return bfloat16_dtype()
    if code in _DTYPES:
        return np.dtype(_DTYPES[code])
    kind = _OTHER_DTYPES.get(code, f"type number {code}")
    raise CheckpointError(
        f"{source}: {name!r} holds no numbers but {kind}. Checkpoints of "
        "`tf.train.Checkpoint` (TensorFlow 2) and of input iterators have such "
        "entries; the released weights are TF1 checkpoints of named variables."
    )


@contextmanager
def _reading(source: object, what: str) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(
            f"{source}: {what} is damaged: {error}. Fetch the file again."
        ) from None


def _shape(data: bytes) -> list[int]:
    shape = []
    for field, dimension in _fields(data):
        if field == 2:
            sizes = [_integer(n) for f, n in _fields(_message(dimension)) if f == 1]
            shape.append(sizes[-1] if sizes else 0)
        elif field == 3 and _integer(dimension):
            raise ValueError("its shape is unknown")
    return shape


def _integer(value: int | bytes) -> int:
    """Take a varint as a signed 64-bit number."""
    if isinstance(value, bytes):
        raise ValueError("a number was expected")
    return value - (1 << 64) if value >= 1 << 63 else value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a message was expected")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Split a message into (field number, number or bytes)."""
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        kind = tag & 7
        if kind == 0:
            number, position = read_varint(data, position)
            yield tag >> 3, number
            continue
        if kind == 2:
            length, position = read_varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} is not in use")
        end = position + length
        if end > len(data):
            raise ValueError("a field reaches over the end")
        value = data[position:end]
        position = end
        yield tag >> 3, value if kind == 2 else int.from_bytes(value, "little")


def _number_field(field: int, number: int) -> bytes:
    return write_varint(field << 3) + write_varint(number) if number else b""


def _bytes_field(field: int, value: bytes) -> bytes:
    return write_varint(field << 3 | 2) + write_varint(len(value)) + value
