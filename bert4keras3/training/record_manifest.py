"""What a folder of records says of itself: settings, shards, counts and checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.record_rows import NUM_SPECIAL_TOKENS

__all__ = ["Manifest", "Settings", "Shard", "vocabulary_digest", "write_json"]

FORMAT = "bert4keras3 rows 1"
NAME = "manifest.json"


def vocabulary_digest(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of the tokens in the order of their ids, in hexadecimal."""
    return hashlib.sha256(json.dumps(tokenizer.vocabulary).encode()).hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def differences(now: dict[str, Any], held: dict[str, Any]) -> str:
    """Return what settings were where they are not the same, or an empty text."""
    return ", ".join(
        f"{name}={held.get(name)!r} (now {now.get(name)!r})"
        for name in sorted({*held, *now})
        if held.get(name) != now.get(name)
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides what the records of a corpus are; see `build_records`."""

    length: int
    across_documents: bool
    fill: bool
    segmenter: str
    seed: int
    block_characters: int
    document_length: int
    longest: int
    encoding: str
    sources: tuple[str, ...]
    vocabulary_size: int
    vocabulary_sha256: str
    tokenizer: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "sources": list(self.sources)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Settings:
        return cls(**{**content, "sources": tuple(content["sources"])})


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        name: its file name.
        rows, documents, sentences, words, tokens: what it holds.
        unknown_tokens: tokens that the vocabulary does not have.
        largest_token_id: -1 if there is no token.
        row_lengths: pairs of a number of tokens and how many rows have so many.
        bytes, sha256: of the file.
        source_sha256: of the documents it was made from.
    """

    name: str
    rows: int
    documents: int
    sentences: int
    words: int
    tokens: int
    unknown_tokens: int
    largest_token_id: int
    row_lengths: tuple[tuple[int, int], ...]
    bytes: int
    sha256: str
    source_sha256: str

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Shard:
        pairs = tuple((length, number) for length, number in content["row_lengths"])
        return cls(**{**content, "row_lengths": pairs})


COUNTS = ("rows", "documents", "sentences", "words", "tokens", "unknown_tokens")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The table of contents of a folder of records.

    It is written last: a folder without one is not complete.

    Attributes:
        settings: `Settings`.
        shards: of `Shard`, in the order of the corpus.
    """

    settings: Settings
    shards: tuple[Shard, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Rows, documents, sentences, words, tokens and unknown tokens in all."""
        return {
            name: sum(getattr(shard, name) for shard in self.shards) for name in COUNTS
        }

    @property
    def padding(self) -> float:
        """Share of the places of rows of full length that hold no token."""
        counts = self.counts
        used = counts["tokens"] + NUM_SPECIAL_TOKENS * counts["rows"]
        return 1.0 - used / max(1, counts["rows"] * self.settings.length)

    def write(self, folder: Path) -> None:
        """Write `manifest.json`, whole or not at all."""
        write_json(
            folder / NAME,
            {
                "format": FORMAT,
                "counts": self.counts,
                "padding": round(self.padding, 4),
                "settings": self.settings.to_json(),
                "shards": [dataclasses.asdict(shard) for shard in self.shards],
            },
        )

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Manifest:
        """Read the manifest of a folder.

        Raises:
            FileNotFoundError: there is none: no records, or not all of them yet.
            ValueError: it is none of ours.
        """
        path = Path(folder) / NAME
        if not path.exists():
            raise FileNotFoundError(
                f"{folder} has no {NAME}. Build records with build_records(sources, "
                f"{str(folder)!r}, tokenizer); if that was interrupted, the same call "
                "goes on."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            settings = Settings.from_json(content["settings"])
            shards = tuple(map(Shard.from_json, content["shards"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is no manifest of the format {FORMAT!r}: {error}. Build the "
                "records again, with this version."
            ) from error
        return cls(settings, shards)

    def check_files(self, folder: str | os.PathLike[str], checksums: bool) -> None:
        """Compare the shards of a folder with the manifest.

        Args:
            folder: the folder.
            checksums: read every byte; otherwise only sizes are compared.

        Raises:
            ValueError: shards are missing or altered; they are named.
        """
        wrong = []
        for shard in self.shards:
            path = Path(folder) / shard.name
            if not path.exists():
                wrong.append(f"{shard.name} is missing")
            elif path.stat().st_size != shard.bytes:
                size = path.stat().st_size
                wrong.append(f"{shard.name} has {size} bytes instead of {shard.bytes}")
            elif checksums and file_digest(path) != shard.sha256:
                wrong.append(f"the SHA-256 of {shard.name} is another")
        if wrong:
            more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise ValueError(
                f"The records in {folder} are not those of their manifest: "
                f"{'; '.join(wrong[:5])}{more}. Copy them again, or remove the folder "
                "and build them again."
            )

    def check_vocabulary(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer whose ids mean something else.

        Raises:
            ValueError: the records were made with another vocabulary.
        """
        if vocabulary_digest(tokenizer) != self.settings.vocabulary_sha256:
            raise ValueError(
                f"The records were made with a vocabulary of "
                f"{self.settings.vocabulary_size} tokens, whose SHA-256 is "
                f"{self.settings.vocabulary_sha256[:12]}…; this tokenizer has "
                f"{tokenizer.vocabulary_size}, {vocabulary_digest(tokenizer)[:12]}…. "
                "Use the tokenizer they were built with, or build them again."
            )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
