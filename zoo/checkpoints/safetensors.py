"""Reading and writing safetensors files.

Eight bytes hold the length of a JSON header, `{name: {dtype, shape, data_offsets}}`
with an optional `__metadata__` of strings; the tensors follow without gaps. The
reader is our own because the `safetensors` library maps the file into memory and
keeps its pages there; what it refuses, we refuse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    TensorInfo,
    bfloat16_dtype,
    tensor_info,
)
from zoo.checkpoints.replacing import replacing
from zoo.checkpoints.tensor_file import TensorFile
from zoo.checkpoints.tensor_source import Variables, named_tensors

# The limit of the safetensors library itself.
MAX_HEADER_BYTES = 100_000_000
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
_CODES = {name: code for code, name in _DTYPES.items()}


class SafetensorsCheckpoint(Checkpoint):
    """One `.safetensors` file.

    Args:
        path: the file.

    Attributes:
        metadata: the strings under `__metadata__`.

    Raises:
        CheckpointError: the header does not describe the file exactly.

    Example:
        ```python
        checkpoint = SafetensorsCheckpoint("model.safetensors")
        print(list(checkpoint.variables)[:3])
        ```
    """

    format = "safetensors"

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._file = TensorFile(path)
        try:
            header, begin = _read_header(self._file)
            self.metadata = _metadata(header.pop("__metadata__", {}), path)
            places = _places(header, self._file.size - begin, path)
        except BaseException:
            self._file.close()
            raise
        self._offsets = {name: begin + place for name, (place, _) in places.items()}
        super().__init__(
            path, [path], {name: info for name, (_, info) in places.items()}
        )

    def _read(self, name: str, info: TensorInfo) -> np.ndarray:
        return self._file.read_array(self._offsets[name], info)

    def close(self) -> None:
        self._file.close()


def write_safetensors(
    path: str | Path,
    variables: Variables,
    *,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a safetensors file, whole or not at all.

    Tensors are ordered by falling size of their elements, so that each is aligned,
    and otherwise as given. Given as callables they are made one at a time: each is
    called once for its shape and once for its numbers.

    Args:
        path: the file to write; an existing one is replaced at the end.
        variables: name to array, or pairs of name and array; instead of an array
            there may be a callable without arguments that returns it.
        metadata: strings to store; PyTorch libraries expect `{"format": "pt"}`.

    Returns:
        The path.

    Raises:
        CheckpointError: a name is not a string or comes twice, a dtype is not one
            of numbers, or a callable changed its shape between two calls.
        OSError: the disk is full, for instance; nothing is left behind then.

    Example:
        ```python
        write_safetensors("model.safetensors", {"kernel": np.ones((2, 3))})
        ```
    """
    path = Path(path)
    sources = named_tensors(variables)
    infos = {name: source.info for name, source in sources.items()}
    for name, info in infos.items():
        if info.dtype.name not in _CODES:
            raise CheckpointError(
                f"{name!r} has dtype {info.dtype.name}, which safetensors cannot "
                f"hold here; cast it to one of {', '.join(_CODES)}."
            )
    names = sorted(infos, key=lambda name: -infos[name].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        info = infos[name]
        begin, end = end, end + info.nbytes
        header[name] = {
            "dtype": _CODES[info.dtype.name],
            "shape": info.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as (file,):
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for chunk in sources[name].chunks():
                file.write(chunk.data)
    return path


def _read_header(file: TensorFile) -> tuple[dict[str, Any], int]:
    path = file.path
    length = int.from_bytes(file.read_bytes(0, 8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, file.size - 8):
        raise CheckpointError(
            f"{path} claims a header of {length} bytes in a file of {file.size} "
            f"(at most {MAX_HEADER_BYTES} are allowed). It is truncated, or no "
            "safetensors file."
        )
    try:
        header = json.loads(
            file.read_bytes(8, length).decode("utf-8"), object_pairs_hook=_no_twins
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} has a header that cannot be read ({error}). It is damaged, or "
            "no safetensors file."
        ) from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is no JSON object.")
    return header, 8 + length


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name comes twice")
    return result


def _metadata(value: object, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(text, str) for text in value.values()
    ):
        raise CheckpointError(f"{path}: `__metadata__` must map names to strings.")
    return value


def _places(
    header: Mapping[str, Any], data_bytes: int, path: Path
) -> dict[str, tuple[int, TensorInfo]]:
    """Check every entry, and that the tensors cover the data without gaps."""
    found = []
    for name, entry in header.items():
        match entry:
            case {
                "dtype": str(code),
                "shape": list(shape),
                "data_offsets": [int(begin), int(end)],
            } if len(entry) == 3 and 0 <= begin <= end <= data_bytes:
                pass
            case _:
                raise CheckpointError(
                    f"{path}: the entry of {name!r} must have exactly dtype, shape "
                    f"and two data_offsets within the {data_bytes} bytes there are. "
                    "The file is truncated or damaged: fetch it again."
                )
        if code not in _DTYPES:
            raise CheckpointError(
                f"{path}: {name!r} has dtype {code!r:.20}; known are "
                f"{', '.join(_DTYPES)}. Convert it to one of these first."
            )
        kind = _DTYPES[code]
        dtype = bfloat16_dtype() if kind == "bfloat16" else np.dtype(kind)
        info = tensor_info(name, shape, dtype, path)
        if end - begin != info.nbytes:
            raise CheckpointError(
                f"{path}: {name!r} of shape {shape} and dtype {code} needs "
                f"{info.nbytes} bytes, the header gives it {end - begin}. The file "
                "is damaged: fetch it again."
            )
        found.append((begin, end, name, info))
    found.sort(key=lambda item: item[:2])
    last = 0
    for begin, end, name, _ in found:
        if begin != last:
            raise CheckpointError(
                f"{path}: {name!r} begins at byte {begin}, expected {last}: tensors "
                "must neither overlap nor leave gaps. Fetch the file again."
            )
        last = end
    if last != data_bytes:
        raise CheckpointError(
            f"{path}: the tensors need {last} bytes after the header, found "
            f"{data_bytes}. The file is truncated or has something appended: fetch "
            "it again."
        )
    return {name: (begin, info) for begin, _, name, info in found}
