"""Checksums of a folder of weights: recorded when it arrives, checked at every load."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

RECORD = "checksums.json"


class ChecksumError(ValueError):
    """A file is not the one that was recorded or published."""


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_checksums(
    folder: str | os.PathLike[str],
    *,
    source: str = "",
    archive_sha256: str | None = None,
) -> Path:
    """Writes the SHA-256 of every file of a folder into `checksums.json` beside them.

    Args:
        folder: a folder of released files. Hidden files are left out.
        source: where they came from, for a person who reads the record.
        archive_sha256: checksum of the zip they were unpacked from.

    Returns:
        The path of the record, written as a whole or not at all.

    Raises:
        FileNotFoundError: there is no such folder, or it is empty.
    """
    folder = Path(folder)
    files = _files(folder)
    if not files:
        raise FileNotFoundError(f"There are no files in {folder} to record.")
    record = {
        "source": source,
        "archive_sha256": archive_sha256,
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for name, path in files.items()
        },
    }
    target = folder / RECORD
    partial = folder / f".{RECORD}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with open(partial, "x", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def check_checksums(folder: str | os.PathLike[str]) -> bool:
    """Compares the files of a folder with the checksums recorded beside them.

    Args:
        folder: a folder of released files.

    Returns:
        True if every recorded file is unchanged, False if nothing was recorded.

    Raises:
        ChecksumError: a recorded file is missing or changed, or the record cannot be
            read; the message names the file and the way out.
    """
    folder = Path(folder)
    record = folder / RECORD
    if not record.is_file():
        return False
    for name, expected in _read(record).items():
        path = folder / name
        if not path.is_file():
            raise ChecksumError(f"{path} is missing. {_mend(folder)}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ChecksumError(
                f"{path} has changed on disk: it has {size:,} bytes and had "
                f"{expected['bytes']:,} when it was recorded. {_mend(folder)}"
            )
        found = sha256(path)
        if found != expected["sha256"]:
            raise ChecksumError(
                f"{path} has changed on disk: its SHA-256 is {found} and was "
                f"{expected['sha256']} when it was recorded. {_mend(folder)}"
            )
    return True


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    names = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {
        name: path
        for name, path in names.items()
        if name != RECORD and not any(p.startswith(".") for p in name.split("/"))
    }


def _read(record: Path) -> dict[str, dict[str, Any]]:
    try:
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
        for name, entry in files.items():
            parts = PurePosixPath(name).parts
            if PurePosixPath(name).is_absolute() or ".." in parts:
                raise ValueError(f"{name!r} leaves the folder")
            if not isinstance(entry["bytes"], int) or len(entry["sha256"]) != 64:
                raise ValueError(f"the entry of {name!r} is malformed")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ChecksumError(
            f"{record} cannot be read as a record of checksums ({error}). Remove it to "
            "have the files as they are now recorded at the next load."
        ) from error
    checked: dict[str, dict[str, Any]] = files
    return checked


def _mend(folder: Path) -> str:
    return (
        f"If you changed it on purpose, remove {folder / RECORD}; otherwise remove the "
        f"folder {folder}, and it is fetched again."
    )
