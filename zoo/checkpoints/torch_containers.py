"""The two containers of `torch.save`: a zip archive, and a row of pickles."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

from zoo.checkpoints.checkpoint import CheckpointError
from zoo.checkpoints.tensor_file import TensorFile
from zoo.checkpoints.torch_pickle import MAX_BYTES, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LEGACY_MARK = _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_ZIP_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


@dataclass(frozen=True)
class Content:
    """What a PyTorch file holds.

    Args:
        root: the pickled object, with `StoredTensor` for tensors.
        storages: key to (first byte, number of bytes).
        crc32: key to CRC-32 of the bytes, for the storages that have one.
    """

    root: Any
    storages: dict[str, tuple[int, int]]
    crc32: dict[str, int]


def read_content(file: TensorFile) -> Content:
    """Read everything but the numbers.

    Raises:
        CheckpointError: the file is neither of the two containers, or is unsafe.
    """
    start = file.read_bytes(0, min(32, file.size))
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(file)
    if start.startswith(b"\x80"):
        # How the number is introduced depends on the version of the pickle.
        if _LEGACY_MARK in start:
            return _read_legacy(file)
        raise CheckpointError(
            f"{file.path} is a plain pickle, which may run code when loaded; it was "
            "not opened. Save the tensors with `torch.save(state_dict)` or as "
            "safetensors."
        )
    raise CheckpointError(
        f"{file.path} is not a PyTorch file: it begins with {start!r}. It may be "
        "truncated, an error page, or a pointer left by git-lfs; fetch it again."
    )


def _read_zip(file: TensorFile) -> Content:
    path = file.path
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is a damaged zip archive ({error}). It is truncated: fetch it "
            "again."
        ) from None
    by_name = {member.filename: member for member in members}
    if len(by_name) != len(members):
        raise CheckpointError(f"{path}: two members of the archive share a name.")
    roots = [name for name in by_name if name.count("/") == 1]
    pickles = [name for name in roots if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(
            f"{path} is a zip archive without exactly one data.pkl, so it was not "
            "written by `torch.save`. Unpack an archive of a whole model first."
        )
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in by_name:
        raise CheckpointError(
            f"{path} is a TorchScript program. Save its `state_dict()` instead."
        )
    order = by_name.get(folder + "byteorder")
    if order is not None and _member_bytes(file, order, 16) != b"little":
        raise CheckpointError(
            f"{path} was written on a big-endian machine. Save it on a little-endian "
            "one, or as safetensors."
        )
    pickle = _member_bytes(file, by_name[pickles[0]], MAX_BYTES)
    root = read_pickle(io.BytesIO(pickle), path).root
    storages, crc32 = {}, {}
    for name, member in by_name.items():
        if name.startswith(folder + "data/"):
            key = name.removeprefix(folder + "data/")
            storages[key] = _member_place(file, member)
            if _has_crc32(member):
                crc32[key] = member.CRC
    return Content(root, storages, crc32)


def _member_bytes(file: TensorFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    offset, count = _member_place(file, member)
    if count > limit:
        raise CheckpointError(
            f"{file.path}: {member.filename} has {count} bytes, expected at most "
            f"{limit}. The file is damaged or hostile."
        )
    data = file.read_bytes(offset, count)
    if _has_crc32(member) and zlib.crc32(data) != member.CRC:
        raise CheckpointError(
            f"{file.path}: the checksum of {member.filename} does not agree. The file "
            "is damaged: fetch it again."
        )
    return data


def _has_crc32(member: zipfile.ZipInfo) -> bool:
    # torch writes 0 when its `set_crc32_options(False)` is on.
    return member.CRC != 0 or member.file_size == 0


def _member_place(file: TensorFile, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Find the bytes of a member that is stored as it is."""
    count = member.file_size
    # A compressed member could unpack to any size; torch never compresses.
    plain = member.compress_type == zipfile.ZIP_STORED and member.compress_size == count
    if not plain or member.flag_bits & 1:
        raise CheckpointError(
            f"{file.path}: {member.filename} is compressed or encrypted "
            f"({member.compress_size} of {count} bytes), which `torch.save` never "
            "does. The file may be hostile and was not loaded."
        )
    header = _ZIP_LOCAL_HEADER.unpack(
        file.read_bytes(member.header_offset, _ZIP_LOCAL_HEADER.size)
    )
    offset = member.header_offset + _ZIP_LOCAL_HEADER.size + header[-2] + header[-1]
    if header[0] != b"PK\x03\x04" or offset + count > file.size:
        raise CheckpointError(
            f"{file.path}: {member.filename} should have {count} bytes at {offset}, "
            f"and the file has {file.size}. It is damaged: fetch it again."
        )
    return offset, count


def _read_legacy(file: TensorFile) -> Content:
    path = file.path
    with open(path, "rb") as stream:
        magic, protocol, system = (read_pickle(stream, path).root for _ in range(3))
        if magic != _LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL:
            raise CheckpointError(
                f"{path} has a format version other than {_LEGACY_PROTOCOL}. Save it "
                "again with a current torch."
            )
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise CheckpointError(
                f"{path} was written on a big-endian machine. Save it on a "
                "little-endian one, or as safetensors."
            )
        pickled = read_pickle(stream, path)
        keys = read_pickle(stream, path).root
        position = stream.tell()
    if not isinstance(keys, list):
        raise CheckpointError(f"{path}: the list of storages is damaged.")
    storages: dict[str, tuple[int, int]] = {}
    for key in keys:
        storage = pickled.storages.get(key) if isinstance(key, str) else None
        if storage is None or key in storages:
            raise CheckpointError(
                f"{path} lists a storage that no tensor uses, or lists it twice. The "
                "file is damaged: fetch it again."
            )
        # The number of elements is written again before the elements.
        numel = int.from_bytes(file.read_bytes(position, 8), "little", signed=True)
        count = numel * storage.itemsize
        if numel < 0 or position + 8 + count > file.size:
            raise CheckpointError(
                f"{path} is truncated: expected {numel} elements ({count} bytes) at "
                f"{position + 8}, and the file has {file.size} bytes. Fetch it again."
            )
        storages[key] = (position + 8, count)
        position += 8 + count
    if position != file.size:
        raise CheckpointError(
            f"{path} has {file.size} bytes, expected {position}. It is damaged: fetch "
            "it again."
        )
    return Content(pickled.root, storages, {})
