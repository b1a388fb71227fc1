"""A corpus in blocks of documents, each of which becomes one shard of records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bert4keras3.training.documents import read_documents, text_files
from bert4keras3.training.record_manifest import Settings

__all__ = ["Block", "blocks_of", "groups_of_files"]


@dataclass(frozen=True)
class Block:
    """Consecutive documents of a corpus.

    Attributes:
        group: int, the group of files it comes from.
        number: int, its place in the group.
        documents: the texts.
    """

    group: int
    number: int
    documents: tuple[str, ...]

    @property
    def shard_name(self) -> str:
        """The file name of its records."""
        return f"rows-{self.group:05}-{self.number:05}.tfrecord.gz"

    @property
    def digest(self) -> str:
        """SHA-256 of the documents and their bounds, in hexadecimal."""
        content = hashlib.sha256()
        for document in self.documents:
            encoded = document.encode("utf-8", "surrogatepass")
            content.update(len(encoded).to_bytes(8, "little"))
            content.update(encoded)
        return content.hexdigest()


def groups_of_files(
    sources: Iterable[str | Path], group_bytes: int
) -> list[tuple[Path, ...]]:
    """Put small files together, so that thousands of them are not as many shards.

    Files keep the order of `sources`, and within a folder that of their names; a group
    is full as soon as it has `group_bytes`. What is in a group depends on names and
    sizes alone, so every process and machine finds the same groups.

    Args:
        sources: files and folders.
        group_bytes: int, the size at which a group is full.

    Returns:
        A list of tuples of paths.

    Raises:
        FileNotFoundError: if a path, or any text in a folder, is missing.
        ValueError: if a file has another suffix than texts have, or occurs twice.
    """
    groups: list[tuple[Path, ...]] = []
    current: list[Path] = []
    size, seen = 0, set()
    for source in sources:
        for file in text_files(source):
            if file.resolve() in seen:
                raise ValueError(
                    f"{file} is among the sources twice; its text would count twice. "
                    f"Pass a folder or the files in it, not both."
                )
            seen.add(file.resolve())
            current.append(file)
            size += file.stat().st_size
            if size >= group_bytes:
                groups.append(tuple(current))
                current, size = [], 0
    if current:
        groups.append(tuple(current))
    return groups


def blocks_of(
    group: int, files: Sequence[str | Path], settings: Settings
) -> Iterator[Block]:
    """Read the files of a group in their order, one pass, as blocks.

    Args:
        group: int, the number of the group.
        files: the paths of its files.
        settings: `Settings`; of these `block_characters`, the characters at which a
            block is full, and what `read_documents` takes.

    Yields:
        `Block`, none of them empty.
    """
    documents: list[str] = []
    size = number = 0
    for file in files:
        for document in read_documents(
            file, settings.document_length, settings.encoding, settings.longest
        ):
            documents.append(document)
            size += len(document)
            if size >= settings.block_characters:
                yield Block(group, number, tuple(documents))
                documents, size, number = [], 0, number + 1
    if documents:
        yield Block(group, number, tuple(documents))
