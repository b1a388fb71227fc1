"""Builds PyTorch files, honest and hostile ones, without torch."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_NAMES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclass
class Name:
    """A `module.attribute` that the pickle asks for."""

    module: str
    attribute: str


@dataclass
class Call:
    """A call of a name."""

    function: Any
    arguments: Any


@dataclass
class PersistentId:
    """A reference to something outside of the pickle."""

    value: Any


@dataclass
class Raw:
    """Pickle instructions as they are."""

    code: bytes


def opcodes(value: Any) -> bytes:
    """Pickle instructions that push a value."""
    match value:
        case Raw(code):
            return code
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            if -(1 << 31) <= value < 1 << 31:
                return b"J" + struct.pack("<i", value)
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(data) < 256:
                return b"\x8a" + bytes([len(data)]) + data
            return b"\x8b" + struct.pack("<i", len(data)) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            data = value.encode()
            return b"X" + struct.pack("<I", len(data)) + data
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            items = b"".join(opcodes(k) + opcodes(v) for k, v in value.items())
            return b"}(" + items + b"u"
        case Name(module, attribute):
            return f"c{module}\n{attribute}\n".encode()
        case Call(function, arguments):
            return opcodes(function) + opcodes(arguments) + b"R"
        case PersistentId(inner):
            return opcodes(inner) + b"Q"
    raise TypeError(f"cannot pickle {value!r}")


def pickled(value: Any) -> bytes:
    """A whole pickle of a value, protocol 2."""
    return b"\x80\x02" + opcodes(value) + b"."


def storage(
    key: str, dtype: str, numel: int, *, view: Any = None, legacy: bool = False
) -> PersistentId:
    """A reference to a storage."""
    items = ("storage", Name("torch", STORAGE_NAMES[dtype]), key, "cpu", numel)
    return PersistentId((*items, view) if legacy else items)


def tensor(
    source: PersistentId, shape: Any, *, offset: Any = 0, stride: Any = None
) -> Call:
    """A tensor that looks at a storage, contiguous unless a stride is given."""
    if stride is None:
        stride = [1]
        for size in reversed(shape[1:]):
            stride.insert(0, stride[0] * size)
        stride = tuple(stride[len(stride) - len(shape) :])
    hooks = Call(Name("collections", "OrderedDict"), ())
    return Call(
        Name("torch._utils", "_rebuild_tensor_v2"),
        (source, offset, tuple(shape), stride, False, hooks),
    )


def state_dict(arrays: Mapping[str, np.ndarray], *, legacy: bool = False) -> dict:
    """A dict of tensors, each with a storage of its own named by its position."""
    return {
        name: tensor(
            storage(str(index), array.dtype.name, array.size, legacy=legacy),
            array.shape,
        )
        for index, (name, array) in enumerate(arrays.items())
    }


def storages_of(arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """The bytes of the storages of `state_dict`."""
    return {str(index): array.tobytes() for index, array in enumerate(arrays.values())}


def zip_bytes(
    root: Any,
    storages: Mapping[str, bytes],
    *,
    byteorder: str = "little",
    compression: int = zipfile.ZIP_STORED,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """A file in the zip form; `root` may be the bytes of a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        data = root if isinstance(root, bytes) else pickled(root)
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", byteorder)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return stream.getvalue()


def legacy_bytes(
    root: Any,
    storages: Mapping[str, bytes],
    itemsizes: Mapping[str, int],
    *,
    little_endian: bool = True,
    magic: int = LEGACY_MAGIC,
    protocol: int = 1001,
    counts: Mapping[str, int] | None = None,
) -> bytes:
    """A file in the form before the zip form."""
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {
        "protocol_version": 1001,
        "little_endian": little_endian,
        "type_sizes": sizes,
    }
    parts = [pickled(magic), pickled(protocol), pickled(system)]
    parts.append(root if isinstance(root, bytes) else pickled(root))
    parts.append(pickled(list(storages)))
    for key, content in storages.items():
        count = (counts or {}).get(key, len(content) // itemsizes[key])
        parts.append(struct.pack("<q", count) + content)
    return b"".join(parts)
