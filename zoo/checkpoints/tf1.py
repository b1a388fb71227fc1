"""Reading TF1 checkpoints (`tf.train.Saver`, format V2) without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from zoo.checkpoints.bundle import Entry, parse_entry, parse_header
from zoo.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointNotFoundError,
    TensorInfo,
    tensor_info,
)
from zoo.checkpoints.table import mask_crc32c, read_table
from zoo.checkpoints.tensor_file import TensorFile

# An index spends about a hundred bytes on a variable.
_MAX_INDEX_BYTES = 1 << 28
_MAX_SHARDS = 100_000


class TF1Checkpoint(Checkpoint):
    """A checkpoint as the released models have it: `.index` and `.data` files.

    The index is checked by its block checksums, and all data files must be there
    with all their bytes, before the first tensor is given. The graph in the `.meta`
    file and the path in the `checkpoint` file are not used: names, shapes and
    places are in the index, and the released `checkpoint` files name a folder of
    their author.

    Args:
        prefix: path without `.index`, such as `"folder/bert_model.ckpt"`.

    Raises:
        CheckpointNotFoundError: the index or a data file is missing.
        CheckpointError: a file is truncated, damaged, or of another kind.

    Example:
        ```python
        checkpoint = TF1Checkpoint("folder/bert_model.ckpt")
        checkpoint.read("bert/embeddings/word_embeddings")
        ```
    """

    format = "tf1"

    def __init__(self, prefix: str | Path) -> None:
        prefix = Path(prefix)
        index = prefix.with_name(prefix.name + ".index")
        num_shards, entries = _read_index(index)
        shards = [
            prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{num_shards:05d}")
            for i in range(num_shards)
        ]
        _check_shards(shards, entries, index)
        super().__init__(
            prefix,
            [index, *shards],
            {name: entry.info for name, entry in entries.items()},
        )
        self._entries = entries
        self._shards: dict[int, TensorFile] = {}
        self._paths = shards
        self._closed = False

    def _read(self, name: str, info: TensorInfo) -> np.ndarray:
        entry = self._entries[name].stored
        return self._shard(entry.shard).read_array(entry.offset, info)

    def verify(self) -> bool:
        for name, located in self._entries.items():
            entry, crc = located.stored, 0
            shard = self._shard(entry.shard)
            for chunk in shard.chunks(entry.offset, entry.size):
                crc = google_crc32c.extend(crc, chunk)
            if mask_crc32c(crc) != entry.crc32c:
                raise CheckpointError(
                    f"{shard.path}: the checksum of {name!r} does not agree with the "
                    "index. The file is damaged, or data and index come from two "
                    "different saves; fetch both again."
                )
        return True

    def close(self) -> None:
        self._closed = True
        for shard in self._shards.values():
            shard.close()

    def _shard(self, number: int) -> TensorFile:
        if self._closed:
            raise CheckpointError(f"{self.path} is closed. Open the checkpoint again.")
        if number not in self._shards:
            self._shards[number] = TensorFile(self._paths[number])
        return self._shards[number]


@dataclass(frozen=True)
class _Located:
    info: TensorInfo
    stored: Entry


def _read_index(path: Path) -> tuple[int, dict[str, _Located]]:
    file = TensorFile(path)
    try:
        if file.size > _MAX_INDEX_BYTES:
            raise CheckpointError(
                f"{path} has {file.size} bytes, far more than a checkpoint index "
                "needs. Were the files renamed?"
            )
        data = file.read_bytes(0, file.size)
    finally:
        file.close()
    pairs = read_table(data, path)
    key, value = next(pairs, (None, b""))
    if key != b"":
        raise CheckpointError(f"{path} has no header. Fetch the file again.")
    header = parse_header(value, path)
    if header.big_endian:
        raise CheckpointError(
            f"{path} was written on a big-endian machine. Restore and save it in "
            "TensorFlow on a little-endian one."
        )
    if not 0 < header.num_shards <= _MAX_SHARDS:
        raise CheckpointError(
            f"{path} claims {header.num_shards} data files, expected 1 to "
            f"{_MAX_SHARDS}. It is damaged: fetch it again."
        )
    return header.num_shards, {
        name: entry for name, entry in (_locate(*pair, path) for pair in pairs)
    }


def _locate(key: bytes, value: bytes, path: Path) -> tuple[str, _Located]:
    try:
        name = key.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{path} holds a name {key!r:.80} not in UTF-8."
        ) from None
    entry = parse_entry(name, value, path)
    info = tensor_info(name, entry.shape, entry.dtype, path)
    if entry.size != info.nbytes:
        raise CheckpointError(
            f"{path}: {name!r} of shape {list(info.shape)} and dtype {info.dtype} "
            f"needs {info.nbytes} bytes, the index says {entry.size}. The file is "
            "damaged: fetch it again."
        )
    return name, _Located(info, entry)


def _check_shards(
    shards: list[Path], entries: Mapping[str, _Located], index: Path
) -> None:
    needed = [0] * len(shards)
    for name, located in entries.items():
        entry = located.stored
        if not 0 <= entry.shard < len(shards) or entry.offset < 0:
            raise CheckpointError(
                f"{index}: {name!r} lies at byte {entry.offset} of data file "
                f"{entry.shard}, and there are {len(shards)}. The index is damaged: "
                "fetch it again."
            )
        needed[entry.shard] = max(needed[entry.shard], entry.offset + entry.size)
    for path, size in zip(shards, needed, strict=True):
        if not path.is_file():
            raise CheckpointNotFoundError(
                f"{path} is missing; {index.name} says it holds {size} bytes. Put it "
                "beside the index."
            )
        found = path.stat().st_size
        if found < size:
            raise CheckpointError(
                f"{path} is truncated: expected {size} bytes, found {found}. Fetch "
                "it again."
            )
