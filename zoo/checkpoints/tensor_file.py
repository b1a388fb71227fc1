"""Reading tensors straight from a file into their own memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from zoo.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointNotFoundError,
    TensorInfo,
)

CHUNK_BYTES = 1 << 20


class TensorFile:
    """A file opened unbuffered, read by seek and readinto.

    Args:
        path: the file.

    Raises:
        CheckpointNotFoundError: the file does not exist.
        CheckpointError: the path is a folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "rb", buffering=0)
        except FileNotFoundError:
            raise CheckpointNotFoundError(
                f"{path} does not exist. Check the path, or put the file there."
            ) from None
        except IsADirectoryError:
            raise CheckpointError(f"{path} is a folder, expected a file.") from None
        except ValueError as error:  # a NUL in the path
            raise CheckpointError(f"{str(path)!r} is no file name: {error}.") from None
        self.size = os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()

    def read_array(self, offset: int, info: TensorInfo) -> np.ndarray:
        """Read the little-endian tensor that begins at a byte offset.

        Args:
            offset: position of its first byte.
            info: its shape and dtype.

        Returns:
            A new C-contiguous array.
        """
        array = np.empty(info.shape, info.dtype)
        self._fill(offset, array)
        if info.dtype == np.bool_:
            # Any non-zero byte means true; numpy expects exactly 0 or 1.
            return array.view(np.uint8) != 0
        if sys.byteorder == "big":
            array.byteswap(inplace=True)
        return array

    def read_bytes(self, offset: int, count: int) -> bytes:
        """Read exactly `count` bytes."""
        if not 0 <= offset <= offset + count <= self.size:
            self._fail(offset, count, max(0, self.size - max(0, offset)))
        data = np.empty(count, np.uint8)
        self._fill(offset, data)
        return data.tobytes()

    def chunks(self, offset: int, count: int) -> Iterator[np.ndarray]:
        """Give a range of the file as uint8 arrays of bounded size."""
        end = offset + count
        while offset < end:
            chunk = np.empty(min(CHUNK_BYTES, end - offset), np.uint8)
            self._fill(offset, chunk)
            yield chunk
            offset += chunk.size

    def _fill(self, offset: int, array: np.ndarray) -> None:
        if array.nbytes == 0:
            return
        view = array.reshape(-1).view(np.uint8).data
        if self._file.closed:
            raise CheckpointError(f"{self.path} is closed. Open the checkpoint again.")
        self._file.seek(offset)
        filled = 0
        # One call reads at most 2 GiB on Linux, so a large tensor takes several.
        while filled < len(view):
            count = self._file.readinto(view[filled:])
            if not count:
                self._fail(offset, len(view), filled)
            filled += count

    def _fail(self, offset: int, expected: int, found: int) -> NoReturn:
        raise CheckpointError(
            f"{self.path} ends too early: expected {expected} bytes from offset "
            f"{offset}, found {found} (the file has {self.size} bytes). It is "
            "truncated: fetch it again."
        )
