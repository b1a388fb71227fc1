"""Documents from text files: plain, JSON lines or JSON, compressed or not."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["clean_text", "read_documents"]

TEXT_SUFFIXES = (".txt", ".jsonl", ".json")
# Full-width letters, digits and some signs become ASCII. Punctuation stays: NFKC would
# turn the Chinese comma into the ASCII one, which other Chinese text does not use.
_NARROW = {0xFF01 + at: chr(0x21 + at) for at in range(94) if chr(0x21 + at).isalnum()}
_NARROW |= {ord("％"): "%", ord("＋"): "+", ord("－"): "-", 0x3000: " "}
_DECIMAL_POINT = re.compile(r"(?<=[0-9])\s?．\s?(?=[0-9])")


def read_documents(path: str | Path, document_length: int = 1000) -> Iterator[str]:
    """Yield the documents of a text file or folder.

    A `.jsonl` line is a document, its text under `"text"`; a `.json` file is a list
    of such records, or of records with a list of `"paragraphs"`. A `.txt` file is cut
    at line ends into documents of at least `document_length` characters, so that a
    held-out split by document keeps neighbouring lines together. Each may be
    compressed with gzip (`.gz`). Lines stay apart as `"\\n"` inside a document.

    Args:
        path: a file, or a folder that is searched for such files.
        document_length: int, the characters after which a plain text is cut.

    Yields:
        str, documents that are not blank, cleaned by `clean_text`.

    Raises:
        FileNotFoundError: if the path, or any text in the folder, is missing.
        ValueError: if a file has another suffix or JSON of another form.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _text_suffix(file))
        if not files:
            raise FileNotFoundError(
                f"No text in folder {path}: expected files that end in "
                f"{', '.join(TEXT_SUFFIXES)}, with or without .gz."
            )
        for file in files:
            yield from read_documents(file, document_length)
        return
    if not path.exists():
        raise FileNotFoundError(f"There is no text file or folder {path}.")
    suffix = _text_suffix(path)
    if not suffix:
        raise ValueError(
            f"Cannot tell what {path} holds; name it *{', *'.join(TEXT_SUFFIXES)}, "
            f"with or without .gz."
        )
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as stream:
        if suffix == ".txt":
            documents: Iterable[str] = _cut_lines(stream, document_length)
        elif suffix == ".jsonl":
            documents = (_record_text(json.loads(line), path) for line in stream)
        else:
            documents = [_record_text(record, path) for record in json.load(stream)]
        for document in documents:
            document = clean_text(document).strip()
            if document:
                yield document


def clean_text(text: str) -> str:
    """Narrow full-width letters and digits, and mend the full-width point.

    Args:
        text: str.

    Returns:
        str in which "．" is a decimal point between digits and "。" elsewhere, as old
        transcriptions mean it.

    Example:

    >>> clean_text("增长９．５％，Ｏ型．")
    '增长9.5%，O型。'
    """
    text = _DECIMAL_POINT.sub(".", text.translate(_NARROW))
    return text.replace("．", "。")


def _text_suffix(path: Path) -> str | None:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    last = suffixes[-1] if suffixes else ""
    return last if last in TEXT_SUFFIXES and path.is_file() else None


def _record_text(record: object, path: Path) -> str:
    if isinstance(record, dict):
        if isinstance(record.get("text"), str):
            return record["text"]
        if isinstance(record.get("paragraphs"), list):
            return "\n".join(record["paragraphs"])
    raise ValueError(
        f'{path}: each record must be an object with a "text" string or a list of '
        f'"paragraphs".'
    )


def _cut_lines(lines: Iterable[str], document_length: int) -> Iterator[str]:
    kept: list[str] = []
    size = 0
    for line in lines:
        kept.append(line.strip())
        size += len(kept[-1])
        if size >= document_length:
            yield "\n".join(kept)
            kept, size = [], 0
    yield "\n".join(kept)
