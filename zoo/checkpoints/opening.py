"""Finding out what a path is, and opening it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path

from zoo.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointNotFoundError,
)
from zoo.checkpoints.h5 import H5Checkpoint
from zoo.checkpoints.safetensors import SafetensorsCheckpoint
from zoo.checkpoints.sharded import ShardedCheckpoint, read_weight_map
from zoo.checkpoints.tf1 import TF1Checkpoint
from zoo.checkpoints.torch_bin import TorchCheckpoint

# Formats in the order in which a folder with several is served: first the released
# one, then the one that is safest to read.
_SUFFIXES = {
    "tf1": (".index",),
    "safetensors": (".safetensors", ".safetensors.index.json"),
    "torch": (".bin", ".pt", ".pth", ".bin.index.json"),
    "h5": (".h5", ".hdf5", ".weights"),
}
_OPENERS: dict[str, Callable[[Path], Checkpoint]] = {
    "tf1": TF1Checkpoint,
    "safetensors": SafetensorsCheckpoint,
    "torch": TorchCheckpoint,
    "h5": H5Checkpoint,
}
_TF1_FILE = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
# What training loops leave beside the weights.
_BYPRODUCTS = ("optimizer", "scheduler", "scaler", "training_args", "rng_state")


def open_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Open a checkpoint of any known format.

    A folder is searched for exactly one checkpoint. If it holds the same weights in
    several formats, the first of tf1, safetensors, torch and h5 is taken. The path
    in a `checkpoint` file is never followed.

    Args:
        path: the prefix of a TF1 checkpoint (`".../bert_model.ckpt"`) or one of its
            files; a `.safetensors`, `.bin`, `.pt`, `.pth`, `.h5`, `.hdf5` or
            `.weights` file; the `*.index.json` of a checkpoint in several files; or
            a folder with one of these.

    Returns:
        The open checkpoint; close it, or use it in a `with` statement.

    Raises:
        CheckpointNotFoundError: there is nothing at the path, or a part is missing.
        CheckpointError: the folder holds several checkpoints of one format, or the
            file is damaged, unsafe or of an unknown format.

    Example:
        ```python
        with open_checkpoint("chinese_roformer-v2-char_L-12_H-768_A-12") as checkpoint:
            print(checkpoint.format, len(checkpoint.variables))
        ```
    """
    path = Path(path)
    if path.is_dir():
        path = _find(path)
    if path.name.endswith(".index.json"):
        suffix = path.name.removesuffix(".index.json")
        kind = _format_of_name(suffix)
        if kind not in ("safetensors", "torch"):
            raise CheckpointError(
                f"{path} lists files of an unknown format; expected the name to end "
                "in .safetensors.index.json or .bin.index.json."
            )
        return ShardedCheckpoint(path, _OPENERS[kind])
    prefix = _tf1_prefix(path)
    if prefix is not None:
        return TF1Checkpoint(prefix)
    if not path.is_file():
        raise CheckpointNotFoundError(_nothing_there(path))
    return _OPENERS[_format_of_file(path)](path)


def _tf1_prefix(path: Path) -> Path | None:
    """The prefix when a path is one, or is one of the files of a TF1 checkpoint."""
    stem = _TF1_FILE.sub("", path.name)
    if stem and stem != path.name:
        return path.with_name(stem)
    if not path.parent.is_dir():
        return None
    # A data file is enough, so that a lost index is named as missing.
    parts = (other.name for other in path.parent.iterdir())
    is_prefix = any(
        name.startswith(path.name) and _TF1_FILE.fullmatch(name, len(path.name))
        for name in parts
    )
    return path if is_prefix else None


def _format_of_name(name: str) -> str | None:
    for kind, suffixes in _SUFFIXES.items():
        if name.endswith(suffixes):
            return kind
    return None


def _format_of_file(path: Path) -> str:
    """Tell the format by the first bytes, and by the name when they say nothing."""
    if path.name == "checkpoint":
        raise CheckpointError(
            f"{path} only names a checkpoint, often in a folder of its author, and is "
            "never followed. Give the folder, or the path without `.index`."
        )
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"\x89HDF"):
        return "h5"
    kind = _format_of_name(path.name)
    if kind == "safetensors" and start[8:9] == b"{":
        # Before the pickles: the length of the header may begin with their byte.
        return "safetensors"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "torch"
    if start[8:9] == b"{":
        return "safetensors"
    if kind is None:
        known = ", ".join(end for ends in _SUFFIXES.values() for end in ends)
        raise CheckpointError(
            f"{path} is of no known format: it begins with {start!r}. Known are "
            f"{known}, and the prefix of a TF1 checkpoint."
        )
    return kind


def _find(folder: Path) -> Path:
    """Find the one checkpoint in a folder."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for kind in _SUFFIXES:
        found = _candidates(folder, names, kind)
        if len(found) > 1:
            raise CheckpointError(
                f"{folder} holds {len(found)} checkpoints of the format {kind}: "
                f"{', '.join(found)}. Give the path of the one you mean."
            )
        if found:
            return folder / found[0]
    raise CheckpointNotFoundError(_nothing_in(folder, names))


def _candidates(folder: Path, names: Iterable[str], kind: str) -> list[str]:
    found = [
        name
        for name in names
        if name.endswith(_SUFFIXES[kind])
        and not name.startswith((".", *_BYPRODUCTS))
        and not (kind == "tf1" and name == ".index")
    ]
    if kind == "tf1" and not found:
        # A data file without its index: name the index as missing, not the folder.
        parts = [name for name in names if ".data-" in name]
        found = sorted({_TF1_FILE.sub("", name) for name in parts} - set(names))
    if kind == "h5" and len(found) > 1:
        found = [name for name in found if not name.endswith(".weights.h5")] or found
    for name in [name for name in found if name.endswith(".index.json")]:
        shards = set(read_weight_map(folder / name).values())
        found = [other for other in found if other not in shards]
    return found


def _nothing_there(path: Path) -> str:
    if not path.parent.is_dir():
        return f"{path} does not exist; neither does the folder {path.parent}."
    names = sorted(other.name for other in path.parent.iterdir() if other.is_file())
    found = [name for kind in _SUFFIXES for name in _candidates_by_name(names, kind)]
    hint = f" {path.parent} holds {', '.join(found)}." if found else ""
    return f"{path} does not exist, with or without `.index`.{hint}"


def _candidates_by_name(names: Iterable[str], kind: str) -> list[str]:
    return [name for name in names if name.endswith(_SUFFIXES[kind])]


def _nothing_in(folder: Path, names: list[str]) -> str:
    message = (
        f"{folder} holds no checkpoint. Expected bert_model.ckpt.index with its data "
        "file, model.safetensors, pytorch_model.bin, or a .h5 file"
    )
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if names:
        message += f"; found {', '.join(names[:10])}"
    if len(folders) == 1 and not names:
        message += f"; perhaps you mean the folder inside it, {folder / folders[0]}"
    return message + "."
