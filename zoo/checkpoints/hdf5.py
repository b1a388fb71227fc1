"""The part of the HDF5 format that files of weights are made of.

The HDF5 library is not used: it runs into memory faults on damaged files. Read here
is the classic layout that h5py writes by default (superblock 0 or 1, object headers of
version 1, groups as symbol tables), with datasets that lie in the file as they are.
Everything else is refused by name. The format is described in the HDF5 File Format
Specification, to whose sections the comments refer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints.checkpoint import CheckpointError, TensorInfo, tensor_info
from zoo.checkpoints.tensor_file import TensorFile

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = (1 << 64) - 1
# A model has thousands of objects; a hostile file has the same one endlessly often.
_MAX_BLOCKS = 200_000
_MAX_BYTES = 1 << 26

# Types of header messages (section IV.A.2).
_DATASPACE, _LINK_INFO, _DATATYPE, _LINK = 0x01, 0x02, 0x03, 0x06
_EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE = 0x07, 0x08, 0x0B, 0x0C
_CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 0x10, 0x11, 0x15
_NEW_FORM = {_LINK_INFO, _LINK, _ATTRIBUTE_INFO}


@dataclass(frozen=True)
class Dataset:
    """An array of numbers that lies in the file without a break.

    Args:
        info: shape and dtype.
        offset: its first byte.
        big_endian: whether its numbers must be turned round.
    """

    info: TensorInfo
    offset: int
    big_endian: bool


@dataclass(frozen=True)
class _Message:
    kind: int
    flags: int
    offset: int
    data: bytes


class HDF5File:
    """An HDF5 file opened for reading.

    Args:
        path: the file.

    Attributes:
        root: the group at the top.

    Raises:
        CheckpointError: the file is no HDF5 file of the classic layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = TensorFile(path)
        self._blocks = self._bytes = 0
        self._heaps: dict[int, dict[int, bytes]] = {}
        try:
            self.root = Node(self, "/", self._root_address())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self, dataset: Dataset) -> np.ndarray:
        """Read a dataset into a new array."""
        array = self._file.read_array(dataset.offset, dataset.info)
        return array.byteswap(inplace=True) if dataset.big_endian else array

    def block(self, offset: int, count: int, mark: bytes = b"") -> bytes:
        """Read a piece of structure that begins with a mark."""
        self.spend(count)
        data = self._file.read_bytes(offset, count)
        if not data.startswith(mark):
            raise self.damaged(f"{mark.decode()} is missing at byte {offset}")
        return data

    def spend(self, count: int) -> None:
        """Count blocks and bytes of structure, which a hostile file repeats."""
        self._blocks += 1
        self._bytes += count
        if self._blocks > _MAX_BLOCKS or self._bytes > _MAX_BYTES:
            raise self.damaged("it has more structure than any model")

    def heap(self, address: int) -> dict[int, bytes]:
        """Read a collection of strings, by number (section III.E)."""
        if address in self._heaps:
            return self._heaps[address]
        (size,) = struct.unpack_from("<8xQ", self.block(address, 16, b"GCOL"))
        data = self.block(address, size)
        found: dict[int, bytes] = {}
        position = 16
        while position + 16 <= size:
            index, stored = struct.unpack_from("<H6xQ", data, position)
            position += 16
            if index == 0:
                break
            found[index] = data[position : position + stored]
            position += -(-stored // 8) * 8
        self._heaps[address] = found
        return found

    def damaged(self, reason: str) -> CheckpointError:
        """An error that says what is wrong with the file."""
        return CheckpointError(
            f"{self.path} is a damaged HDF5 file: {reason}. Fetch it again."
        )

    def unsupported(self, what: str) -> CheckpointError:
        """An error that says what the file uses that weights do not need."""
        return CheckpointError(
            f"{self.path} has {what}, which is not read here. Copy the weights into a "
            "file opened with `h5py.File(path, 'w', libver='earliest')`, without "
            "compression."
        )

    def lies_within(self, offset: int, count: int) -> bool:
        """Whether a range of bytes is inside the file."""
        return 0 <= offset and offset + count <= self._file.size

    def _root_address(self) -> int:
        start = self._file.read_bytes(0, min(8, self._file.size))
        if start != SIGNATURE:
            raise CheckpointError(
                f"{self.path} is not an HDF5 file: it begins with {start!r}. It may "
                "be truncated, an error page, or a pointer left by git-lfs; fetch it "
                "again."
            )
        version = self.block(8, 1)[0]
        if version > 1:
            raise self.unsupported(f"the newer layout {version} of HDF5")
        # Section II.A: sizes of offsets and lengths, base address, end of file.
        head = self.block(0, 96 + 4 * version)
        if head[13:15] != b"\x08\x08":
            raise self.unsupported("addresses of other than 8 bytes")
        base, _, end, _ = struct.unpack_from("<4Q", head, 24 + 4 * version)
        if base:
            raise self.unsupported("a block of other content in front")
        if end > self._file.size:
            raise CheckpointError(
                f"{self.path} is truncated: expected {end} bytes, found "
                f"{self._file.size}. Fetch it again."
            )
        return struct.unpack_from("<Q", head, 56 + 4 * version + 8)[0]


class Node:
    """A group or a dataset of an HDF5 file.

    Args:
        file: the file.
        name: its path, for errors.
        address: where its object header begins.
    """

    def __init__(self, file: HDF5File, name: str, address: int) -> None:
        self.file = file
        self.name = name
        self.address = address

    @property
    def is_group(self) -> bool:
        return self._only(_SYMBOL_TABLE) is not None

    @property
    def is_dataset(self) -> bool:
        return self._only(_LAYOUT) is not None

    def child(self, name: str) -> Node:
        """Get a member of a group; links to elsewhere are not followed."""
        address = self.members.get(name)
        if address is None:
            raise CheckpointError(
                f"{self.file.path}: {name!r:.80} is missing from {self.name!r:.80}, or "
                "is a link. The file is damaged: fetch it again."
            )
        return Node(self.file, f"{self.name}/{name}".replace("//", "/"), address)

    @cached_property
    def members(self) -> Mapping[str, int | None]:
        """Names in a group, with addresses, or None for links to elsewhere."""
        message = self._only(_SYMBOL_TABLE)
        if message is None:
            return {}
        # Sections III.A to III.D: a tree of symbol nodes, and a heap of names.
        tree, heap = self._unpack("<QQ", message.data)
        _, size, _, place = self._unpack("<8sQQQ", self._block(heap, 32, b"HEAP"))
        names = self._block(place, size)
        return {
            self._text(names, offset): None if kind == 2 else address
            for offset, address, kind in self._symbols(tree, level=None)
        }

    @cached_property
    def attributes(self) -> Mapping[str, list[str] | None]:
        """Attributes that are lists of strings; None for those of other types."""
        found = {}
        for message in self._messages:
            if message.kind == _ATTRIBUTE:
                name, value = self._attribute(message.data)
                found[name] = value
        return found

    def dataset(self, label: str) -> Dataset:
        """Describe a dataset.

        Args:
            label: the name to use in errors.
        """
        layout, space = self._only(_LAYOUT), self._only(_DATASPACE)
        kind = self._only(_DATATYPE)
        if layout is None or space is None or kind is None:
            raise CheckpointError(
                f"{self.file.path}: {label!r:.80} is no array of numbers."
            )
        for refused, what in [(_FILTERS, "compressed"), (_EXTERNAL, "external")]:
            if self._only(refused) is not None:
                raise self.file.unsupported(f"{what} data ({label!r:.80})")
        shape = self._shape(space.data)
        parsed = _number_type(kind.data)
        if parsed is None or shape is None:
            raise CheckpointError(
                f"{self.file.path}: {label!r:.80} is no array of numbers."
            )
        dtype, big_endian = parsed
        info = tensor_info(label, shape, dtype, self.file.path)
        offset, stored = self._place(layout, label)
        if info.nbytes == 0:
            return Dataset(info, 0, False)
        if stored < info.nbytes or not self.file.lies_within(offset, info.nbytes):
            raise CheckpointError(
                f"{self.file.path}: {label!r:.80} needs {info.nbytes} bytes, the file "
                f"has {stored} for it. It is damaged: fetch it again."
            )
        return Dataset(info, offset, big_endian)

    def _place(self, layout: _Message, label: str) -> tuple[int, int]:
        """First byte and number of bytes of the data (section IV.A.2.i)."""
        version, form = self._unpack("<BB", layout.data)
        if version not in (3, 4) or form > 1:
            raise self.file.unsupported(f"data in chunks ({label!r:.80})")
        if form == 0:
            (size,) = self._unpack("<H", layout.data[2:])
            return layout.offset + 4, min(size, len(layout.data) - 4)
        offset, size = self._unpack("<QQ", layout.data[2:])
        return (0, 0) if offset == _NOWHERE else (offset, size)

    @cached_property
    def _messages(self) -> list[_Message]:
        """Messages of the object header (section IV.A.1.a)."""
        version, _, _, _, size = self._unpack("<BBHII", self._block(self.address, 12))
        if version != 1:
            raise self.file.unsupported("an object header of the newer layout")
        pending, seen, messages = [(self.address + 16, size)], set(), []
        while pending:
            begin, size = pending.pop(0)
            if begin in seen:
                raise self.file.damaged("an object header leads back to itself")
            seen.add(begin)
            block = self._block(begin, size)
            position = 0
            while position + 8 <= size:
                kind, length, flags = struct.unpack_from("<HHB", block, position)
                position += 8
                data = block[position : position + length]
                if len(data) < length:
                    raise self.file.damaged("a header message is cut off")
                messages.append(_Message(kind, flags, begin + position, data))
                if kind == _CONTINUATION:
                    pending.append(self._unpack("<QQ", data))
                position += length
        return messages

    def _only(self, kind: int) -> _Message | None:
        found = [message for message in self._messages if message.kind == kind]
        if any(message.kind in _NEW_FORM for message in self._messages):
            raise self.file.unsupported(f"a group of the newer layout ({self.name})")
        if len(found) > 1:
            raise self.file.damaged(f"{self.name:.80} is described twice")
        if found and found[0].flags & 2:
            raise self.file.unsupported("a shared type")
        return found[0] if found else None

    def _symbols(
        self, address: int, level: int | None
    ) -> Iterator[tuple[int, int, int]]:
        """Name offset, address and kind of each member below a tree node."""
        head = self._block(address, 24, b"TREE")
        _, kind, height, used = struct.unpack_from("<4sBBH", head)
        # Levels fall by one, so no tree can lead back to itself.
        if kind or (level is not None and height != level - 1):
            raise self.file.damaged("the tree of a group has a wrong node")
        # A key of 8 bytes stands before each address of a child.
        children = self._block(address + 24, 16 * used)
        for (child,) in struct.iter_unpack("<8xQ", children):
            if height:
                yield from self._symbols(child, height)
                continue
            head = self._block(child, 8, b"SNOD")
            entries = self._block(child + 8, 40 * struct.unpack_from("<6xH", head)[0])
            yield from struct.iter_unpack("<QQI20x", entries)

    def _attribute(self, data: bytes) -> tuple[str, list[str] | None]:
        """Name and strings of an attribute (section IV.A.2.m)."""
        version, flags, *sizes = self._unpack("<BBHHH", data)
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise self.file.unsupported("an attribute of another layout")
        position = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(data[position : position + size])
            position += -(-size // 8) * 8 if version == 1 else size
        name = self._text(parts[0], 0)
        shape = self._shape(parts[2])
        count = 0 if shape is None else math.prod(shape)
        kind, bits, width = self._unpack("<BBxxI", parts[1])
        rest = data[position:]
        if count == 0:
            return name, []
        is_reference = kind & 15 == 9 and bits & 15 == 1
        if kind & 15 != 3 and not is_reference:
            return name, None
        if not width or count * width > len(rest):
            raise self.file.damaged(f"the attribute {name!r:.80} is cut off")
        items = [rest[i * width : (i + 1) * width] for i in range(count)]
        if is_reference:
            items = [self._from_heap(item) for item in items]
        return name, [self._text(item.rstrip(b" ") + b"\0", 0) for item in items]

    def _from_heap(self, reference: bytes) -> bytes:
        """A string of any length, kept in a global heap."""
        length, address, index = self._unpack("<IQI", reference)
        if length == 0:
            return b""
        self.file.spend(length)
        text = self.file.heap(address).get(index, b"")[:length]
        if len(text) < length:
            raise self.file.damaged("a string is missing")
        return text

    def _shape(self, data: bytes) -> tuple[int, ...] | None:
        """Sizes of a dataspace (section IV.A.2.b); None when it has no elements."""
        version, rank, _, kind = self._unpack("<BBBB", data)
        if version == 2 and kind == 2:
            return None
        if version not in (1, 2):
            raise self.file.unsupported("a shape of another layout")
        return self._unpack(f"<{rank}Q", data[8 if version == 1 else 4 :])

    def _text(self, data: bytes, offset: int) -> str:
        end = data.find(b"\0", offset)
        try:
            return data[offset : end if end >= 0 else None].decode("utf-8")
        except UnicodeDecodeError:
            raise self.file.damaged("a name is not in UTF-8") from None

    def _block(self, offset: int, count: int, mark: bytes = b"") -> bytes:
        return self.file.block(offset, count, mark)

    def _unpack(self, form: str, data: bytes) -> tuple[Any, ...]:
        try:
            return struct.unpack_from(form, data)
        except struct.error:
            raise self.file.damaged(f"a part of {self.name:.80} is cut off") from None


def _number_type(data: bytes) -> tuple[np.dtype, bool] | None:
    """Dtype and byte order of a datatype message (section IV.A.2.d)."""
    if len(data) < 12:
        return None
    kind, bits, members, size = struct.unpack_from("<BBHI", data)
    big_endian = bool(bits & 1) and size > 1
    if kind & 15 == 0 and size in (1, 2, 4, 8):
        plain = struct.unpack_from("<HH", data, 8) == (0, 8 * size)
        letter = "i" if bits & 8 else "u"
        return (np.dtype(f"{letter}{size}"), big_endian) if plain else None
    if kind & 15 == 1 and not bits & 0x40 and len(data) >= 20:
        # First bit, width, place and width of exponent, of mantissa, and bias.
        ieee = {
            2: (0, 16, 10, 5, 0, 10, 15),
            4: (0, 32, 23, 8, 0, 23, 127),
            8: (0, 64, 52, 11, 0, 52, 1023),
        }
        if struct.unpack_from("<HHBBBBI", data, 8) == ieee.get(size):
            return np.dtype(f"f{size}"), big_endian
    # h5py writes bools as an enumeration of FALSE and TRUE.
    if kind & 15 == 8 and size == 1 and b"FALSE\0" in data and b"TRUE\0" in data:
        return np.dtype(bool), False
    return None
