"""What every checkpoint file looks like to the rest of the zoo."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

# numpy 1 holds 32 dimensions, numpy 2 holds 64; weights have at most four.
MAX_DIMENSIONS = 32
# Far above any real tensor, and low enough for numpy's own size arithmetic.
MAX_TENSOR_BYTES = 1 << 50


class CheckpointError(ValueError):
    """A checkpoint file is damaged, unsafe, or not what it was taken for."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A checkpoint, or one of its files, is not there."""


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of one stored tensor.

    Args:
        shape: sizes of the dimensions; `()` for a scalar.
        dtype: dtype of the stored numbers, in native byte order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the tensor in memory."""
        return self.size * self.dtype.itemsize


class Checkpoint(ABC):
    """An open checkpoint: names, shapes and dtypes at once, tensors on demand.

    Opening reads headers only. `read` gives one tensor as a fresh, writable,
    C-contiguous array, read straight into its own memory, so that loading a
    model needs the model's bytes plus one tensor. Nothing is memory-mapped.
    An open checkpoint is not meant to be shared between threads.

    Attributes:
        format: `"tf1"`, `"torch"`, `"safetensors"` or `"h5"`.
        path: what was opened: the prefix of a TF1 checkpoint, else the file.
        files: the files the checkpoint is made of.
        variables: name to `TensorInfo`, in the order of the file.

    Example:
        ```python
        with open_checkpoint("chinese_GAU-alpha-char_L-24_H-768") as checkpoint:
            for name, info in checkpoint.variables.items():
                array = checkpoint.read(name)
        ```
    """

    format: ClassVar[str]

    def __init__(
        self, path: Path, files: Iterable[Path], variables: dict[str, TensorInfo]
    ) -> None:
        self.path = path
        self.files = tuple(files)
        self.variables = variables

    @abstractmethod
    def _read(self, name: str, info: TensorInfo) -> np.ndarray:
        """Read the tensor of a name that is known to exist."""

    @abstractmethod
    def close(self) -> None:
        """Close the files; reading is not possible afterwards."""

    def read(self, name: str) -> np.ndarray:
        """Read one tensor.

        Args:
            name: a key of `variables`.

        Returns:
            A new array of the stored shape and dtype (float16 and bfloat16 are
            kept as they are).

        Raises:
            CheckpointError: there is no such tensor, or its bytes are not there.
        """
        info = self.variables.get(name)
        if info is None:
            raise CheckpointError(
                f"{self.path} holds no tensor named {name!r}.{near(name, self)}"
            )
        return self._read(name, info)

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """Iterate over `(name, array)`, holding one array at a time."""
        for name in self.variables:
            yield name, self.read(name)

    def verify(self) -> bool:
        """Compare the stored checksums with the data.

        Returns:
            True when the format has checksums and all of them agree, False when
            the format has none (structure and lengths were checked on opening).

        Raises:
            CheckpointError: a checksum differs; the message names the tensor.
        """
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {str(self.path)!r}, {len(self.variables)} tensors>"
        )


def near(name: str, checkpoint: Checkpoint) -> str:
    """End of a sentence that offers the nearest tensor names."""
    matches = difflib.get_close_matches(name, checkpoint.variables, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def tensor_info(
    name: str, shape: Sequence[Any], dtype: np.dtype[Any], source: object
) -> TensorInfo:
    """Build a `TensorInfo` from numbers that came out of a file.

    Raises:
        CheckpointError: the shape is not a list of sizes, or is absurdly large.
    """
    for size in shape:
        if type(size) is not int or size < 0:
            raise CheckpointError(
                f"{source}: tensor {name!r} has the dimension {describe(size)}; sizes "
                "are integers >= 0. The file is damaged: fetch it again."
            )
    # Zeros are left out, or a (0, 2**60) tensor would pass and numpy would fail.
    volume = dtype.itemsize * math.prod(size for size in shape if size)
    if len(shape) > MAX_DIMENSIONS or volume > MAX_TENSOR_BYTES:
        raise CheckpointError(
            f"{source}: tensor {name!r} claims {len(shape)} dimensions and "
            f"{describe(volume)} bytes, more than any model has. The file is damaged: "
            "fetch it again."
        )
    return TensorInfo(tuple(shape), dtype)


def describe(value: object) -> str:
    """Name a value from a hostile file without printing what may be endless."""
    if type(value) is int and abs(value) < 1 << 64:
        return str(value)
    return (
        "a number of more than 64 bits"
        if type(value) is int
        else (f"of type {type(value).__name__}")
    )


def bfloat16_dtype() -> np.dtype[Any]:
    """The numpy dtype of bfloat16, which `ml_dtypes` (a part of Keras) adds."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)
