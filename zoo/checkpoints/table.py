"""The sorted key-value table that TensorFlow uses for checkpoint indexes.

It is the table format of LevelDB without a filter. A file is a row of blocks, then
a footer of 48 bytes: handles (offset, size) of the metaindex and the index block,
zeros up to 40 bytes, and a magic number. A block is its entries, the offsets of its
restart points as 32-bit numbers, and their count; one byte (compression) and a
masked CRC-32C follow. An entry stores how many bytes its key shares with the one
before. The index block maps a key at or after the last key of a data block to the
handle of that block. The format is described in `table_format.md` of LevelDB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from zoo.checkpoints.checkpoint import CheckpointError

MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_MASK_DELTA = 0xA282EAD8
_RESTART_INTERVAL = 16
_MAX_KEY_BYTES = 1 << 26


def masked_crc32c(*chunks: object) -> int:
    """CRC-32C of some bytes, rotated and shifted as LevelDB stores it.

    The mask keeps a checksum from being computed over data that holds checksums:
    `masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8  (mod 2**32)`.

    Args:
        *chunks: bytes or contiguous uint8 arrays, taken one after the other.
    """
    import google_crc32c

    crc = 0
    for chunk in chunks:
        crc = google_crc32c.extend(crc, chunk)
    return mask_crc32c(crc)


def mask_crc32c(crc: int) -> int:
    """Mask a finished CRC-32C."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned integer in groups of seven bits.

    Returns:
        The number and the position after it.

    Raises:
        ValueError: the data ends inside the number, or it exceeds 64 bits.
    """
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("a number is cut off")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >> 64:
                break
            return result, position
    raise ValueError("a number exceeds 64 bits")


def write_varint(number: int) -> bytes:
    """Write an unsigned integer in groups of seven bits."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def read_table(data: bytes, source: object) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the keys and values of a table, checking all of its blocks.

    Args:
        data: the whole table file.
        source: what to call the file in errors.

    Raises:
        CheckpointError: the file is no table, is damaged, or is compressed.
    """
    if len(data) < _FOOTER_BYTES or _magic(data) != MAGIC:
        raise CheckpointError(
            f"{source} is not a TensorFlow checkpoint index: the mark at its end is "
            "missing. The file is truncated, or something else was given its name; "
            "fetch it again."
        )
    try:
        footer = data[-_FOOTER_BYTES:]
        _, position = _read_handle(footer, 0)  # metaindex: holds no filter
        index, _ = _read_handle(footer, position)
        previous: bytes | None = None
        total = 0
        for _, handle in _entries(_block(data, *index)):
            place, _ = _read_handle(handle, 0)
            for key, value in _entries(_block(data, *place)):
                if previous is not None and key <= previous:
                    raise ValueError(f"key {key!r:.80} is out of order")
                previous = key
                # Three bytes can repeat a key of any length, but for its end.
                total += len(key)
                if total > _MAX_KEY_BYTES:
                    raise ValueError("its keys are longer than those of any model")
                yield key, value
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(
            f"{source} is a damaged checkpoint index: {error}. Fetch it again."
        ) from None


def build_table(
    items: Iterable[tuple[bytes, bytes]], block_size: int = 262144
) -> bytes:
    """Build a table, laid out as TensorFlow's own writer does.

    Args:
        items: keys and values in increasing order of the keys.
        block_size: a data block is closed when it has reached this size.

    Returns:
        The bytes of the table file.
    """
    table = bytearray()
    handles: list[tuple[bytes, bytes]] = []
    block = _BlockBuilder(_RESTART_INTERVAL)
    # The separator of a finished block depends on the next key: it is kept waiting.
    waiting: tuple[bytes, bytes] | None = None
    last = b""
    for key, value in items:
        if waiting is not None:
            handles.append((_separator(waiting[0], key), waiting[1]))
            waiting = None
        block.add(key, value)
        last = key
        if block.size >= block_size:
            waiting = (key, _append_block(table, block.finish()))
            block = _BlockBuilder(_RESTART_INTERVAL)
    if not block.empty:
        waiting = (last, _append_block(table, block.finish()))
    if waiting is not None:
        handles.append((_successor(waiting[0]), waiting[1]))
    metaindex = _append_block(table, _BlockBuilder(1).finish())
    index = _BlockBuilder(1)
    for key, handle in handles:
        index.add(key, handle)
    footer = metaindex + _append_block(table, index.finish())
    table += footer.ljust(_FOOTER_BYTES - 8, b"\0")
    table += struct.pack("<Q", MAGIC)
    return bytes(table)


def _magic(data: bytes) -> int:
    return int.from_bytes(data[-8:], "little")


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + _TRAILER_BYTES > len(data):
        raise ValueError(
            f"a block of {size} bytes at {offset} reaches over the end of the file "
            f"({len(data)} bytes)"
        )
    kind = data[end]
    if kind:
        name = "snappy" if kind == 1 else f"type {kind}"
        raise ValueError(
            f"a block is compressed ({name}), which no TensorFlow saver does for "
            "checkpoints"
        )
    stored = int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little")
    if masked_crc32c(data[offset : end + 1]) != stored:
        raise ValueError(f"the checksum of the block at {offset} does not agree")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise ValueError("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block has more restart points than bytes")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        added, position = read_varint(block, position)
        length, position = read_varint(block, position)
        middle = position + added
        if shared > len(key) or middle + length > end:
            raise ValueError("an entry reaches over the end of its block")
        key = key[:shared] + block[position:middle]
        position = middle + length
        yield key, block[middle:position]


class _BlockBuilder:
    """Entries of one block, with prefixes shared between restart points."""

    def __init__(self, restart_interval: int) -> None:
        self._interval = restart_interval
        self._data = bytearray()
        self._restarts = [0]
        self._since_restart = 0
        self._last = b""

    @property
    def empty(self) -> bool:
        return not self._data

    @property
    def size(self) -> int:
        return len(self._data) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._since_restart < self._interval:
            limit = min(len(key), len(self._last))
            while shared < limit and key[shared] == self._last[shared]:
                shared += 1
        else:
            self._restarts.append(len(self._data))
            self._since_restart = 0
        for number in (shared, len(key) - shared, len(value)):
            self._data += write_varint(number)
        self._data += key[shared:]
        self._data += value
        self._last = key
        self._since_restart += 1

    def finish(self) -> bytes:
        count = len(self._restarts)
        return bytes(self._data) + struct.pack(f"<{count + 1}I", *self._restarts, count)


def _append_block(table: bytearray, block: bytes) -> bytes:
    handle = write_varint(len(table)) + write_varint(len(block))
    table += block + b"\0"
    table += struct.pack("<I", masked_crc32c(block, b"\0"))
    return handle


def _separator(key: bytes, following: bytes) -> bytes:
    """A short key `k` with `key <= k < following`."""
    limit = min(len(key), len(following))
    same = 0
    while same < limit and key[same] == following[same]:
        same += 1
    if same < limit and key[same] < 0xFF and key[same] + 1 < following[same]:
        return key[:same] + bytes([key[same] + 1])
    return key


def _successor(key: bytes) -> bytes:
    """A short key at or after `key`."""
    for position, byte in enumerate(key):
        if byte != 0xFF:
            return key[:position] + bytes([byte + 1])
    return key
