"""What a pickle of tensors is made of: inert descriptions, and what builds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

STORAGE_DTYPES = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}


@dataclass(frozen=True)
class Storage:
    """A flat run of numbers elsewhere in the file.

    Args:
        key: the name of the run.
        dtype: name of the dtype of its elements.
        numel: number of elements of the whole run.
        offset: first element seen, when this is a view of the run (old files).
        length: number of elements seen.
    """

    key: str
    dtype: str
    numel: int
    offset: int
    length: int

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor described as a strided view of a storage, not checked yet."""

    storage: Storage
    offset: Any
    shape: tuple[Any, ...]
    stride: tuple[Any, ...]


@dataclass(frozen=True)
class Name:
    """A known `module.attribute`, which is all that is ever made of it."""

    text: str


def read_storage(pid: Any) -> Storage:
    """Understand a persistent id, which is how a pickle names a storage.

    Raises:
        ValueError: it has another form.
    """
    match pid:
        case ("storage", Name(text), str(key), str(), int(numel), *rest):
            view = rest[0] if len(rest) == 1 else None
        case _:
            raise ValueError("a persistent id describes no storage")
    if text not in STORAGE_DTYPES or not 0 <= numel < 1 << 63:
        raise ValueError(f"a storage is a {text}, or has an impossible length")
    match view:
        case None:
            offset, length = 0, numel
        case (str(), int(offset), int(length)):
            if not 0 <= offset <= offset + length <= numel or length < 0:
                raise ValueError("a view of a storage leaves it")
        case _:
            raise ValueError("a storage view has an unknown form")
    return Storage(key, STORAGE_DTYPES[text], numel, offset, length)


def _ordered_dict() -> dict[Any, Any]:
    return {}


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, *_unused: Any
) -> StoredTensor:
    if not (
        isinstance(storage, Storage)
        and isinstance(shape, tuple)
        and isinstance(stride, tuple)
        and len(_unused) <= 3
    ):
        raise ValueError("a tensor is rebuilt from something else than a storage")
    return StoredTensor(storage, offset, shape, stride)


def _parameter(data: Any, *_unused: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor) or len(_unused) != 2:
        raise ValueError("a parameter is made from something else than a tensor")
    return data


def _size(items: Any) -> tuple[Any, ...]:
    if not isinstance(items, tuple):
        raise ValueError("a size is made from something else than a tuple")
    return items


CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
}
