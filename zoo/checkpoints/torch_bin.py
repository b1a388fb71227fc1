"""Reading PyTorch files (`torch.save`) without torch and without unpickling.

Both containers hold a pickle that describes tensors as strided views of numbered
storages. The zip form (torch 1.6 and later) has a member per storage, stored without
compression. The form before it is a row of five pickles (a magic number, the
protocol, facts about the machine, the object, the storage keys), then, for each key,
the number of elements as eight bytes and the elements.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints import torch_containers as containers
from zoo.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    TensorInfo,
    bfloat16_dtype,
    describe,
    tensor_info,
)
from zoo.checkpoints.tensor_file import TensorFile
from zoo.checkpoints.torch_objects import StoredTensor

_WRAPPERS = ("state_dict", "model_state_dict", "model")


class TorchCheckpoint(Checkpoint):
    """A `.bin`, `.pt` or `.pth` file holding a `state_dict`.

    The object must be a dict of tensors, or a dict with such a dict under
    `"state_dict"`, `"model_state_dict"` or `"model"`. Tensors may be views of each
    other's storage and may be strided; each is read as its own contiguous array.

    Args:
        path: the file.

    Raises:
        CheckpointError: the file holds anything but tensors and plain containers
            (nothing of it is run), is truncated, compressed, or big-endian.

    Example:
        ```python
        checkpoint = TorchCheckpoint("pytorch_model.bin")
        kernel = checkpoint.read("roformer.pooler.dense.weight").T
        ```
    """

    format = "torch"

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._file = TensorFile(path)
        try:
            content = containers.read_content(self._file)
            self._content = content
            self._tensors = {
                name: _place(name, tensor, content.storages, path)
                for name, tensor in _state_dict(content.root, path).items()
            }
        except BaseException:
            self._file.close()
            raise
        super().__init__(
            path, [path], {name: place.info for name, place in self._tensors.items()}
        )

    def _read(self, name: str, info: TensorInfo) -> np.ndarray:
        place = self._tensors[name]
        if place.stride is None:
            return self._file.read_array(place.offset, info)
        flat = self._file.read_array(
            place.offset, TensorInfo((place.span,), info.dtype)
        )
        strides = [step * info.dtype.itemsize for step in place.stride]
        return np.lib.stride_tricks.as_strided(flat, info.shape, strides).copy()

    def verify(self) -> bool:
        for key, expected in self._content.crc32.items():
            offset, count = self._content.storages[key]
            crc = 0
            for chunk in self._file.chunks(offset, count):
                crc = zlib.crc32(chunk.data, crc)
            if crc != expected:
                raise CheckpointError(
                    f"{self.path}: the checksum of storage {key!r} does not agree. "
                    "The file is damaged: fetch it again."
                )
        return self._content.crc32.keys() == self._content.storages.keys()

    def close(self) -> None:
        self._file.close()


class _Place:
    """Where a tensor lies in the file; `stride` is None when it is contiguous."""

    def __init__(
        self,
        info: TensorInfo,
        offset: int,
        span: int,
        stride: tuple[int, ...] | None,
    ) -> None:
        self.info = info
        self.offset = offset
        self.span = span
        self.stride = stride


def _state_dict(root: Any, path: Path) -> Mapping[str, StoredTensor]:
    found = root
    for _ in range(len(_WRAPPERS)):
        inner = next(
            (
                found[key]
                for key in _WRAPPERS
                if isinstance(found, dict) and isinstance(found.get(key), dict)
            ),
            None,
        )
        if inner is None:
            break
        found = inner
    if not isinstance(found, dict) or not found:
        kind = "an empty dict" if found == {} else f"a {type(found).__name__}"
        raise CheckpointError(
            f"{path} holds {kind}, expected a dict of tensors. Save the model with "
            "`torch.save(model.state_dict(), path)`."
        )
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            raise CheckpointError(
                f"{path}: the entry {name!r:.80} is a {type(value).__name__}, expected "
                "a tensor. Save only `model.state_dict()`."
            )
    return found


def _place(
    name: str,
    tensor: StoredTensor,
    storages: Mapping[str, tuple[int, int]],
    path: Path,
) -> _Place:
    """Check that a tensor lies within its storage, and find its first byte."""
    storage = tensor.storage
    kind = storage.dtype
    dtype = bfloat16_dtype() if kind == "bfloat16" else np.dtype(kind)
    info = tensor_info(name, tensor.shape, dtype, path)
    if storage.key not in storages:
        raise CheckpointError(
            f"{path}: the numbers of {name!r} (storage {storage.key!r:.40}) are "
            "missing. The file is truncated: fetch it again."
        )
    begin, count = storages[storage.key]
    if count != storage.numel * dtype.itemsize:
        raise CheckpointError(
            f"{path}: storage {storage.key!r:.40} of {name!r} should hold "
            f"{storage.numel} x {dtype}, {storage.numel * dtype.itemsize} bytes; "
            f"found {count}. The file is damaged: fetch it again."
        )
    stride = _checked_stride(name, tensor, path)
    span = 0
    if info.size:
        span = 1 + sum((n - 1) * s for n, s in zip(info.shape, stride, strict=True))
    inside = 0 <= tensor.offset and tensor.offset + span <= storage.length
    if not inside or info.size > storage.length:
        raise CheckpointError(
            f"{path}: {name!r} of shape {list(info.shape)}, stride {list(stride)} and "
            f"offset {tensor.offset} does not fit into its storage of "
            f"{storage.length} elements. The file is damaged or hostile."
        )
    offset = begin + (storage.offset + tensor.offset) * dtype.itemsize
    contiguous = _is_contiguous(info.shape, stride)
    return _Place(info, offset, span, None if contiguous else stride)


def _checked_stride(name: str, tensor: StoredTensor, path: Path) -> tuple[int, ...]:
    numbers = (tensor.offset, *tensor.stride)
    if len(tensor.stride) != len(tensor.shape) or any(
        type(number) is not int or not 0 <= number < 1 << 63 for number in numbers
    ):
        offset, *stride = map(describe, numbers)
        raise CheckpointError(
            f"{path}: {name!r} has the offset {offset} and the strides "
            f"({', '.join(stride)}), expected one integer >= 0 for each of "
            f"{len(tensor.shape)} dimensions. The file is damaged or hostile."
        )
    return tensor.stride


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and step != expected:
            return 0 in shape
        expected *= size
    return True
