"""One file from one web address: resumable, checked, and whole or not there at all.

This stands on the standard library's urllib. Resuming safely needs exactly what a
bigger client hides (`Range`, `If-Range`, the raw status and validators), and no HTTP
client is among this project's own dependencies.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from zoo.archive import DiskFullError, is_disk_full, sync_folder
from zoo.connection import (
    Interrupted,
    TransferError,
    UnsatisfiableRange,
    length_of,
    open_url,
    range_of,
    reason_of,
    validator_of,
)

__all__ = ["Patience", "TransferError", "download_zip"]

_CHUNK = 1 << 18
_ZIP_START = b"PK\x03\x04"
_LARGEST = 8 << 30  # as much as an archive may unpack to


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to come back.

    Attributes:
        timeout: seconds without a byte before an attempt is given up.
        tries: attempts in a row that bring nothing new.
        total_tries: attempts in all, also when each brings a little.
        pause: seconds before the second attempt; doubled each time.
        longest_pause: bound on a pause, also on one that the server asks for.
        slowest: bytes per second, averaged over `window`, below which an attempt is
            given up.
        window: seconds over which the speed is averaged.
    """

    timeout: float = 30.0
    tries: int = 5
    total_tries: int = 50
    pause: float = 1.0
    longest_pause: float = 30.0
    slowest: float = 1024.0
    window: float = 60.0


@dataclass(frozen=True)
class _Partial:
    """A file on its way, and beside it the note of what it is a part of."""

    path: Path
    url: str

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def validator(self) -> str | None:
        """Returns the `If-Range` value that makes resuming safe, or None."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            if note["url"] != self.url or not self.path.is_file():
                return None
            validator = note["validator"]
            return validator if isinstance(validator, str) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def size(self) -> int:
        with suppress(OSError):
            return self.path.stat().st_size
        return 0

    def begin(self, headers: Message) -> None:
        note = {"url": self.url, "validator": validator_of(headers)}
        self.note.write_text(json.dumps(note), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def download_zip(
    url: str,
    path: str | os.PathLike[str],
    *,
    progress: bool = True,
    patience: Patience | None = None,
) -> Path:
    """Downloads a zip to `path`, which appears complete or not at all.

    What arrived before a cut is kept as `path` + ".partial" and continued, in this
    call or a later one, when the server proves by its ETag or date that the file is
    still the same; otherwise it starts over. One caller at a time: hold a lock.

    Args:
        url: an http or https address.
        path: where the file is put. Its folder must exist.
        progress: show a progress bar.
        patience: timeouts and numbers of attempts.

    Returns:
        `path` as a `Path`.

    Raises:
        TransferError: the address does not answer, refuses, or gives something that is
            not a zip.
        DiskFullError: there is no room; the part that arrived is removed.
    """
    patience = patience or Patience()
    path = Path(path)
    if urlsplit(url).scheme not in ("http", "https"):
        raise TransferError(f"{url} is not an http or https address.")
    partial = _Partial(path.with_name(path.name + ".partial"), url)
    bar = _Progress(path.name, progress)
    try:
        _fetch_patiently(partial, bar, patience)
        os.replace(partial.path, path)
        partial.note.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        if is_disk_full(error):
            partial.discard()
            if not isinstance(error, DiskFullError):
                raise DiskFullError(
                    f"The disk is full: {path.name} does not fit into {path.parent}. "
                    "Nothing was kept; free some space and try again, or name another "
                    "folder in the environment variable BERT4KERAS3_CACHE."
                ) from error
        raise
    finally:
        bar.close()
        if not 0 < partial.size() <= _LARGEST:
            partial.discard()
    return path


def _fetch_patiently(partial: _Partial, bar: _Progress, patience: Patience) -> None:
    fruitless = 0
    for attempt in range(1, patience.total_tries + 1):
        before = partial.size()
        try:
            return _attempt(partial, bar, patience)
        except Interrupted as error:
            fruitless = 1 if partial.size() > before else fruitless + 1
            if fruitless >= patience.tries or attempt == patience.total_tries:
                raise TransferError(
                    f"{partial.url} failed {attempt} times, the last time because "
                    f"{error}."
                ) from error
            pause = patience.pause * 2 ** (fruitless - 1) * random.uniform(0.8, 1.2)
            if error.wait is not None:
                pause = max(pause, error.wait)
            time.sleep(min(pause, patience.longest_pause))


def _attempt(partial: _Partial, bar: _Progress, patience: Patience) -> None:
    validator = partial.validator()
    offset = partial.size() if validator else 0
    rest = (offset, validator) if validator and offset else None
    try:
        response = open_url(partial.url, patience.timeout, rest)
    except UnsatisfiableRange as error:
        if error.total == offset:
            return _check_whole(partial, offset)
        partial.discard()
        raise Interrupted("the file there has changed") from error
    with response:
        _check_kind(partial.url, response.headers)
        if response.status == 206:
            total = _resumed_total(partial, response.headers, offset, validator)
        else:
            offset, total = 0, length_of(response.headers)
        _check_space(partial.path, offset, total)
        bar.start(offset, total)
        with open(partial.path, "ab" if offset else "wb") as file:
            if not offset:  # the rest of a file need not repeat its validator
                partial.begin(response.headers)
            _receive(response, file, partial.url, bar, patience, fresh=not offset)
            file.flush()
            os.fsync(file.fileno())
    _check_whole(partial, total)


def _receive(
    response: Any,
    file: IO[bytes],
    url: str,
    bar: _Progress,
    patience: Patience,
    *,
    fresh: bool,
) -> None:
    start = b"" if fresh else _ZIP_START
    mark, received = time.monotonic(), 0
    while True:
        try:
            # read1 gives what has arrived; read would wait for a whole chunk, and a
            # server that trickles could hold it for hours.
            chunk = response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"the connection broke ({reason_of(error)})") from error
        if len(start) < len(_ZIP_START):
            start += chunk[: len(_ZIP_START) - len(start)]
            if not _ZIP_START.startswith(start):
                raise TransferError(
                    f"{url} gave something that is not a zip; it begins with {start!r}."
                )
        if not chunk:
            return
        file.write(chunk)
        if file.tell() > _LARGEST:
            raise TransferError(f"{url} does not end after {_LARGEST:,} bytes.")
        bar.update(len(chunk))
        received += len(chunk)
        elapsed = time.monotonic() - mark
        if elapsed > patience.window:
            if received < patience.slowest * elapsed:
                raise Interrupted(f"only {received:,} bytes came in {elapsed:.0f} s")
            mark, received = time.monotonic(), 0


def _check_kind(url: str, headers: Message) -> None:
    if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise TransferError(
            f"{url} gave a web page instead of the file: most likely an error page, a "
            "login, or a page to click through."
        )
    coding = headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise TransferError(f"{url} gave the file in the unasked coding {coding!r}.")


def _resumed_total(
    partial: _Partial, headers: Message, offset: int, validator: str | None
) -> int | None:
    start, total = range_of(headers)
    # Some servers honour Range and ignore If-Range: look at what they send as well.
    field = "ETag" if (validator or "").startswith('"') else "Last-Modified"
    if start != offset or (headers.get(field) not in (None, validator)):
        partial.discard()
        raise Interrupted("the file there has changed")
    return total


def _check_space(path: Path, offset: int, total: int | None) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - offset > free:
        raise DiskFullError(
            f"The disk is full: {path.name.removesuffix('.partial')} still needs "
            f"{total - offset:,} bytes, and {path.parent} has {free:,} left. Free some "
            "space, or name another folder in the environment variable "
            "BERT4KERAS3_CACHE."
        )


def _check_whole(partial: _Partial, total: int | None) -> None:
    size = partial.size()
    if total is not None and size < total:
        raise Interrupted(f"it was cut off after {size:,} of {total:,} bytes")
    if total is not None and size > total:
        partial.discard()
        raise Interrupted(f"{size:,} bytes came instead of {total:,}")
    if zipfile.is_zipfile(partial.path):
        return
    if total is None:
        raise Interrupted(f"it was cut off after {size:,} bytes")
    partial.discard()
    raise TransferError(
        f"{partial.url} gave {size:,} bytes, all it announced, but they are not a zip: "
        "its table of contents is missing."
    )


class _Progress:
    """A progress bar that appears with the first answer, not before."""

    def __init__(self, title: str, shown: bool) -> None:
        self.title = title
        self.shown = shown
        self.bar: Any = None

    def start(self, offset: int, total: int | None) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(
                desc=self.title,
                disable=not self.shown,
                initial=offset,
                total=total,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                mininterval=0.5,
            )
        else:
            self.bar.total, self.bar.n = total, offset
            self.bar.refresh()

    def update(self, count: int) -> None:
        self.bar.update(count)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
