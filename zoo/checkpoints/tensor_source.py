"""Tensors on their way into a file: arrays, or callables that make them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from zoo.checkpoints.checkpoint import CheckpointError, TensorInfo
from zoo.checkpoints.tensor_file import CHUNK_BYTES

Tensor: TypeAlias = Any  # an array, or a callable without arguments giving one
Variables: TypeAlias = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]


class TensorSource:
    """One named tensor to write, made only while it is written."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self._tensor = tensor
        self._info: TensorInfo | None = None

    @property
    def info(self) -> TensorInfo:
        """Shape and dtype; a callable is called to learn them, once."""
        if self._info is None:
            self._array()
        assert self._info is not None
        return self._info

    def chunks(self) -> Iterator[np.ndarray]:
        """Give the little-endian bytes as uint8 arrays of bounded size."""
        flat = self._array().reshape(-1).view(np.uint8)
        for start in range(0, flat.size, CHUNK_BYTES):
            yield flat[start : start + CHUNK_BYTES]

    def _array(self) -> np.ndarray:
        make: Callable[[], Any] | None = (
            self._tensor if callable(self._tensor) else None
        )
        array = np.asarray(make() if make else self._tensor, order="C")
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise CheckpointError(
                f"{self.name!r} is of dtype {array.dtype}, expected numbers or bools."
            )
        info = TensorInfo(array.shape, array.dtype.newbyteorder("="))
        if self._info not in (None, info):
            raise CheckpointError(
                f"The callable for {self.name!r} gave {self._info}, then {info}; it "
                "must give the same tensor each time."
            )
        self._info = info
        little = array.dtype.newbyteorder("<") if sys.byteorder == "big" else info.dtype
        return array.astype(little, copy=False)


def named_tensors(variables: Variables) -> dict[str, TensorSource]:
    """Collect what is to be written, in the order given.

    Raises:
        CheckpointError: a name is no string, is empty, or comes twice.
    """
    pairs = variables.items() if isinstance(variables, Mapping) else variables
    sources: dict[str, TensorSource] = {}
    for name, tensor in pairs:
        if not isinstance(name, str) or not name:
            raise CheckpointError(f"A tensor name must be a string, got {name!r:.80}.")
        if name in sources:
            raise CheckpointError(f"The name {name!r} comes twice; give each once.")
        sources[name] = TensorSource(name, tensor)
    return sources
