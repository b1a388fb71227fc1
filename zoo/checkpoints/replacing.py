"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from zoo.checkpoints.checkpoint import CheckpointNotFoundError


@contextlib.contextmanager
def replacing(*targets: Path) -> Iterator[tuple[BinaryIO, ...]]:
    """Open a new file for each target; put them in place together at the end.

    The files are written beside their targets under temporary names, flushed to the
    disk, and renamed in the order given. When several targets exist already, all but
    the first are removed before the first rename: a reader meets the old set, an
    incomplete set that it refuses, or the new set, never a mixture. If anything
    fails before the renames, the temporary files are removed and the targets are as
    they were.

    Args:
        *targets: the files to write; the one that makes the set complete comes last.

    Yields:
        The open files, in the same order.

    Raises:
        CheckpointNotFoundError: the folder does not exist.

    Example:
        ```python
        with replacing(Path("weights.bin")) as (file,):
            file.write(b"...")
        ```
    """
    parts: list[Path] = []
    files: list[BinaryIO] = []
    try:
        for target in targets:
            part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
            files.append(_create(part))
            parts.append(part)
        yield tuple(files)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for target in targets[1:]:
            target.unlink(missing_ok=True)
        for part, target in zip(parts, targets, strict=True):
            os.replace(part, target)
    except BaseException:
        for file in files:
            # Closing flushes, which fails again on a full disk.
            with contextlib.suppress(OSError):
                file.close()
        for part in parts:
            part.unlink(missing_ok=True)
        raise


def _create(path: Path) -> BinaryIO:
    try:
        return open(path, "xb")
    except FileNotFoundError:
        raise CheckpointNotFoundError(
            f"The folder {path.parent} does not exist. Create it first."
        ) from None
