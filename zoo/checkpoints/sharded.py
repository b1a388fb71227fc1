"""Checkpoints split over several files that a `*.index.json` lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointNotFoundError,
    TensorInfo,
)

_MAX_INDEX_BYTES = 1 << 28


class ShardedCheckpoint(Checkpoint):
    """Several files of one format, as `model.safetensors.index.json` lists them.

    Args:
        path: the `*.index.json` file.
        open_file: opens one of the listed files.

    Raises:
        CheckpointNotFoundError: a listed file is missing.
        CheckpointError: the list is damaged, names a file outside its own folder, or
            does not agree with what the files hold.
    """

    def __init__(
        self, path: str | Path, open_file: Callable[[Path], Checkpoint]
    ) -> None:
        path = Path(path)
        weight_map = read_weight_map(path)
        files = list(dict.fromkeys(weight_map.values()))
        self._shards: dict[str, Checkpoint] = {}
        try:
            for file in files:
                if not path.with_name(file).is_file():
                    raise CheckpointNotFoundError(
                        f"{path.with_name(file)} is missing; {path.name} lists it as "
                        f"one of {len(files)} files. Put it there too."
                    )
                self._shards[file] = open_file(path.with_name(file))
            variables = _merge(path, weight_map, self._shards)
        except BaseException:
            self.close()
            raise
        self._weight_map = weight_map
        self.format = next(iter(self._shards.values())).format  # type: ignore[misc]
        super().__init__(path, [path, *map(path.with_name, files)], variables)

    def _read(self, name: str, info: TensorInfo) -> np.ndarray:
        return self._shards[self._weight_map[name]].read(name)

    def verify(self) -> bool:
        return all([shard.verify() for shard in self._shards.values()])

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()


def read_weight_map(path: Path) -> dict[str, str]:
    """Read which file holds which tensor, from a `*.index.json` file.

    Raises:
        CheckpointError: the file is damaged or names a file outside its folder.
    """
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError("it is far too large")
        content = json.loads(path.read_text("utf-8"))
        weight_map = content["weight_map"]
        if not isinstance(weight_map, dict) or not weight_map:
            raise TypeError("`weight_map` is empty or no object")
    except FileNotFoundError:
        raise CheckpointNotFoundError(f"{path} does not exist.") from None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no list of checkpoint files ({error!s:.200}). It needs a "
            "`weight_map` from tensor names to file names."
        ) from None
    for name, file in weight_map.items():
        if not _is_plain(file):
            raise CheckpointError(
                f"{path} puts {name!r:.80} into {file!r:.80}, expected the name of a "
                "file in the same folder. The file may be hostile."
            )
    return weight_map


def _is_plain(file: object) -> bool:
    return (
        isinstance(file, str)
        and file not in ("", ".", "..")
        and not any(character in file for character in "/\\:\0")
    )


def _merge(
    path: Path, weight_map: dict[str, str], shards: dict[str, Checkpoint]
) -> dict[str, TensorInfo]:
    for name, file in weight_map.items():
        if name not in shards[file].variables:
            raise CheckpointError(
                f"{path} says that {file} holds {name!r}, and it does not. The files "
                "come from different saves, or one is damaged."
            )
    variables = {}
    for file, shard in shards.items():
        for name, info in shard.variables.items():
            if weight_map.get(name) != file:
                raise CheckpointError(
                    f"{file} holds {name!r}, which {path.name} does not list there. "
                    "The files come from different saves."
                )
            variables[name] = info
    return variables
