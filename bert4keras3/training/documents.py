"""Documents from text files: plain, JSON lines or JSON, compressed or not."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["clean_text", "read_documents", "text_files"]

TEXT_SUFFIXES = (".txt", ".jsonl", ".json")
# Full-width letters, digits and some signs become ASCII. Punctuation stays: NFKC would
# turn the Chinese comma into the ASCII one, which other Chinese text does not use.
_NARROW = {0xFF01 + at: chr(0x21 + at) for at in range(94) if chr(0x21 + at).isalnum()}
_NARROW |= {ord("％"): "%", ord("＋"): "+", ord("－"): "-", 0x3000: " "}
_DECIMAL_POINT = re.compile(r"(?<=[0-9])\s?．\s?(?=[0-9])")


def text_files(path: str | Path) -> list[Path]:
    """The text files of a folder, sorted, or the one file.

    Args:
        path: a file, or a folder that is searched for such files.

    Returns:
        A list of at least one path.

    Raises:
        FileNotFoundError: if the path, or any text in the folder, is missing.
        ValueError: if a file has another suffix.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _text_suffix(file))
        if not files:
            raise FileNotFoundError(
                f"No text in folder {path}: expected files that end in "
                f"{', '.join(TEXT_SUFFIXES)}, with or without .gz."
            )
        return files
    if not path.exists():
        raise FileNotFoundError(f"There is no text file or folder {path}.")
    if not _text_suffix(path):
        raise ValueError(
            f"Cannot tell what {path} holds; name it *{', *'.join(TEXT_SUFFIXES)}, "
            f"with or without .gz."
        )
    return [path]


def read_documents(
    path: str | Path,
    document_length: int = 1000,
    encoding: str = "utf-8",
    longest: int = 1_000_000,
) -> Iterator[str]:
    """Yield the documents of a text file or folder.

    A `.jsonl` line is a document, its text under `"text"`; a `.json` file is a list
    of such records, or of records with a list of `"paragraphs"`. A `.txt` file is cut
    at line ends into documents of at least `document_length` characters, so that a
    held-out split by document keeps neighbouring lines together. Each may be
    compressed with gzip (`.gz`). Lines stay apart as `"\\n"` inside a document.

    Args:
        path: a file, or a folder that is searched for such files.
        document_length: int, the characters after which a plain text is cut.
        encoding: str, of all files: `"utf-8"`, `"gb18030"` or another in which a line
            end is one byte.
        longest: int, characters; a longer document, such as a file without line ends,
            becomes several, cut behind sentences where it has any.

    Yields:
        str, documents that are not blank, cleaned by `clean_text`.

    Raises:
        FileNotFoundError: if the path, or any text in the folder, is missing.
        ValueError: if a file has another suffix, another encoding, JSON of another
            form, or a broken end.
    """
    for file in text_files(path):
        suffix = _text_suffix(file)
        lines = _lines(file, encoding)
        if suffix == ".txt":
            documents: Iterable[str] = _cut_lines(lines, document_length)
        elif suffix == ".jsonl":
            documents = _of_json_lines(lines, file)
        else:
            documents = _of_json(lines, file)
        for document in documents:
            yield from _pieces(clean_text(document).strip(), longest)


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


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Decode line by line, so that an error can name its line."""
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                text = line.decode(encoding)
                yield text.removeprefix("\ufeff") if number == 1 else text
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: byte {error.start} is not {encoding}. If the file "
            f'has another encoding, for example "gb18030", say so by `encoding`; if it '
            f"mixes them, convert it first: iconv -f gb18030 -t utf-8."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is no whole gzip file: {error} after line {number}. Fetch it "
            f"again, or take the .gz off its name if it is not compressed."
        ) from error


def _of_json_lines(lines: Iterable[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            yield _record_text(_parsed(line, f"{path}, line {number}"), path, number)


def _of_json(lines: Iterable[str], path: Path) -> Iterator[str]:
    records = _parsed("".join(lines), str(path))
    if not isinstance(records, list):
        raise ValueError(f"{path} must hold a list of records, or be named *.jsonl.")
    for number, record in enumerate(records, 1):
        yield _record_text(record, path, number)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: no JSON: {error}.") from error


def _record_text(record: object, path: Path, number: int) -> str:
    if isinstance(record, dict):
        if isinstance(record.get("text"), str):
            return record["text"]
        if isinstance(record.get("paragraphs"), list):
            return "\n".join(record["paragraphs"])
    raise ValueError(
        f'{path}, record {number}: each must be an object with a "text" string or a '
        f'list of "paragraphs".'
    )


def _pieces(document: str, longest: int) -> Iterator[str]:
    """Cut behind the last line or sentence that fits; a blank document has none."""
    while len(document) > longest:
        ends = [document.rfind(mark, 0, longest) for mark in "\n。！？"]
        stop = max(ends) + 1 or longest
        if piece := document[:stop].strip():
            yield piece
        document = document[stop:].strip()
    if document:
        yield document


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
