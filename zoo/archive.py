"""Unpacking a zip that came from somewhere else: all of it, or nothing.

The archive's own claims are not believed: every name is checked before the first byte
is written, and the bytes are counted while they are inflated.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CHUNK = 1 << 20
_SLACK = 1 << 20
_CLUTTER = {"thumbs.db", "desktop.ini", ".ds_store"}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ArchiveError(ValueError):
    """A zip is damaged, or holds something that must not be unpacked."""


class DiskFullError(OSError):
    """There is no room for the files; nothing half-written was kept."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)


@dataclass(frozen=True)
class Limits:
    """How much an archive may become.

    The largest release, roformer-v2-large, is 1.3 GB, and weights hardly compress; the
    defaults leave room for a model six times as large.
    """

    entries: int = 1000
    total_bytes: int = 8 << 30
    ratio: int = 100


def extract_zip(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    limits: Limits | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Path:
    """Unpacks a zip into a new folder, which appears complete or not at all.

    A single folder around everything (`name/vocab.txt`) is dropped, so archives with
    and without it give the same layout. Clutter of file managers (`__MACOSX`,
    `.DS_Store`, `Thumbs.db`) is left out.

    Args:
        path: the zip.
        target: the folder to make. It must not exist; its parent is made if needed.
        limits: bounds on entries, bytes and compression ratio.
        on_bytes: called with the number of bytes written, for a progress bar.

    Returns:
        `target` as a `Path`.

    Raises:
        ArchiveError: not a zip, damaged (checksum, cut off), encrypted, or it has
            names that leave the folder, links, special files, names that collide, or
            more content than `limits` allow.
        FileNotFoundError: `path` does not exist.
        FileExistsError: `target` exists already.
        DiskFullError: there is no room for the files.

    Example:

    >>> extract_zip("chinese_GAU-alpha-char_L-24_H-768.zip", "gau")  # doctest: +SKIP
    """
    path, target = Path(path), Path(target)
    limits = limits or Limits()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} to unpack.")
    if os.path.lexists(target):
        raise FileExistsError(
            f"{path.name} is to be unpacked as {target}, but that exists already. "
            "Remove it or choose another folder."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with zipfile.ZipFile(path) as archive:
            plan = _plan(archive, path, limits)
            _check_space(plan, target.parent, path)
            os.mkdir(partial)
            for info, parts in plan:
                _extract(archive, info, partial.joinpath(*parts), path, on_bytes)
        _sync_tree(partial)
        _place(partial, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ArchiveError(
            f"{path} is not a whole zip ({error}). Remove it and fetch it again."
        ) from error
    except OSError as error:
        if is_disk_full(error) and not isinstance(error, DiskFullError):
            raise DiskFullError(
                f"The disk is full: {path.name} could not be unpacked into "
                f"{target.parent}. Nothing was kept; free some space and try again."
            ) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(target.parent)
    return target


def is_disk_full(error: OSError) -> bool:
    """Says whether an error means that the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _place(partial: Path, target: Path) -> None:
    try:
        os.replace(partial, target)
    except OSError as error:
        # A folder cannot replace one with files in it: somebody was faster.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) or target.is_dir():
            raise FileExistsError(
                f"{target} appeared while it was being unpacked; it was left as it is."
            ) from error
        raise


def _plan(
    archive: zipfile.ZipFile, path: Path, limits: Limits
) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """Decides where every file goes, or refuses the archive as a whole."""
    infos = archive.infolist()
    if len(infos) > limits.entries:
        raise ArchiveError(
            f"{path.name} has {len(infos)} entries; a released model has a handful, "
            f"and more than {limits.entries} are refused."
        )
    files = []
    for info in infos:
        parts = _safe_parts(info, path)
        if _is_clutter(parts):
            continue
        _check_kind(info, path)
        if not info.is_dir():
            files.append((info, parts))
    if not files:
        raise ArchiveError(f"{path.name} holds no files.")
    _check_size([info for info, _ in files], path, limits)
    while all(len(parts) > 1 for _, parts in files) and (
        len({parts[0] for _, parts in files}) == 1
    ):
        files = [(info, parts[1:]) for info, parts in files]
    _check_collisions([parts for _, parts in files], path)
    return files


def _safe_parts(info: zipfile.ZipInfo, path: Path) -> tuple[str, ...]:
    # `filename` has been cut at a NUL and had separators replaced; judge the original.
    name = info.orig_filename
    parts = tuple(name.rstrip("/").split("/"))
    reason = None
    if not name.strip("/"):
        reason = "is empty"
    elif name.startswith("/"):
        reason = "is an absolute path"
    elif "\\" in name:
        reason = "contains a backslash"
    elif ":" in name:
        reason = "contains a colon, as a drive letter does"
    elif re.search(r"[\x00-\x1f\x7f]", name):
        reason = "contains a control character"
    elif ".." in parts:
        reason = "climbs out of the folder with '..'"
    elif any(part in ("", ".") for part in parts):
        reason = "has an empty part"
    elif any(part != part.rstrip(". ") for part in parts):
        reason = "has a part that ends in a dot or a space"
    if reason:
        raise ArchiveError(
            f"{path.name} is refused: the name {name!r} inside it {reason}. Nothing "
            "was unpacked; get the archive from its official address."
        )
    return parts


def _is_clutter(parts: tuple[str, ...]) -> bool:
    last = parts[-1].lower()
    return "__MACOSX" in parts or last in _CLUTTER or last.startswith("._")


def _check_kind(info: zipfile.ZipInfo, path: Path) -> None:
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if stat.S_ISLNK(kind) else "a special file"
        raise ArchiveError(
            f"{path.name} is refused: {name!r} inside it is {what}, and only plain "
            "files are unpacked."
        )
    if info.flag_bits & 0x41:
        raise ArchiveError(
            f"{path.name} is refused: {name!r} inside it is encrypted. Unpack it with "
            "its password and give the folder instead."
        )
    if info.compress_type not in _METHODS:
        raise ArchiveError(
            f"{path.name} is refused: {name!r} inside it is compressed by method "
            f"{info.compress_type}; only 'store' and 'deflate' are read. Unpack it "
            "with another program and give the folder instead."
        )


def _check_size(infos: list[zipfile.ZipInfo], path: Path, limits: Limits) -> None:
    total = sum(info.file_size for info in infos)
    if total > limits.total_bytes:
        raise ArchiveError(
            f"{path.name} is refused: it would become {total:,} bytes, more than the "
            f"{limits.total_bytes:,} allowed."
        )
    # The whole archive is compared as well: entries may share their compressed bytes.
    claims = [
        (info.orig_filename, info.file_size, info.compress_size) for info in infos
    ]
    claims.append(("all of it", total, path.stat().st_size))
    for name, size, packed in claims:
        if size > limits.ratio * packed + _SLACK:
            raise ArchiveError(
                f"{path.name} is refused as a zip bomb: {name!r} would grow from "
                f"{packed:,} to {size:,} bytes, more than {limits.ratio} times."
            )


def _check_collisions(paths: list[tuple[str, ...]], path: Path) -> None:
    # Some file systems ignore case, some compose accents: a name may be only one file.
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for parts in paths:
        for depth in range(1, len(parts)):
            name = "/".join(parts[:depth])
            if folders.setdefault(_folded(name), name) != name:
                _refuse_collision(path, folders[_folded(name)], name)
        name = "/".join(parts)
        if _folded(name) in seen:
            _refuse_collision(path, seen[_folded(name)], name)
        seen[_folded(name)] = name
    for key in seen.keys() & folders.keys():
        _refuse_collision(path, folders[key] + "/", seen[key])


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _refuse_collision(path: Path, one: str, other: str) -> None:
    raise ArchiveError(
        f"{path.name} is refused: {one!r} and {other!r} inside it would be the same "
        "file."
    )


def _check_space(
    plan: list[tuple[zipfile.ZipInfo, tuple[str, ...]]], folder: Path, path: Path
) -> None:
    total = sum(info.file_size for info, _ in plan)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DiskFullError(
            f"The disk is full: unpacking {path.name} takes {total:,} bytes, and "
            f"{folder} has {free:,} left. Free some space and try again."
        )


def _extract(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    file: Path,
    path: Path,
    on_bytes: Callable[[int], None] | None,
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(info) as source, open(file, "xb") as sink:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > info.file_size:
                break
            sink.write(chunk)
            if on_bytes is not None:
                on_bytes(len(chunk))
        sink.flush()
        os.fsync(sink.fileno())
    if written != info.file_size:
        raise ArchiveError(
            f"{path.name} is damaged: {str(PurePosixPath(info.filename))!r} is said to "
            f"have {info.file_size:,} bytes and has {written:,}. Fetch it again."
        )


def _sync_tree(folder: Path) -> None:
    for inner, _, _ in os.walk(folder):
        sync_folder(Path(inner))


def sync_folder(folder: Path) -> None:
    """Flushes a folder, so that a new name in it survives a power cut."""
    if os.name == "nt":  # Windows cannot open a folder to flush it.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
