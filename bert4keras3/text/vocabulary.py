"""Reading, writing and simplifying `vocab.txt`."""

import os
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from pathlib import Path

from bert4keras3.text.unicode_tables import CJK, PUNCTUATION, unicode_tables


def read_vocabulary_lines(path: str | os.PathLike[str]) -> list[str]:
    r"""Reads the lines of a vocabulary file, cut at `\n` and nowhere else.

    The BERT vocabularies hold U+2028 in two tokens. `str.splitlines` and many readers
    cut there too, which shifts every later id.

    Args:
        path: a UTF-8 text file with one token a line.

    Returns:
        A list of str, line `i` being the token with id `i`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not UTF-8 or holds no line.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder: pass the vocabulary file itself, or use "
            "`Tokenizer.from_folder`."
        )
    if not path.exists():
        raise FileNotFoundError(
            f"There is no vocabulary file {path}. It should be a text file with one "
            "token a line, usually called vocab.txt."
        )
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not UTF-8 text (line {line}, byte {error.start}). Convert it, "
            "or check that this is the vocabulary and not another file."
        ) from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise ValueError(f"{path} is empty: a vocabulary has one token a line.")
    return lines


def token_of_line(line: str) -> str:
    """Gives the token of a vocabulary line: what comes before any white space.

    Args:
        line: one line of a vocabulary file.

    Returns:
        A str; empty for a blank line, such as the U+2028 of the BERT vocabularies.
    """
    fields = line.split(maxsplit=1)
    return fields[0] if fields else ""


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """Reads the tokens of a vocabulary file.

    Args:
        path: a UTF-8 text file with one token a line.

    Returns:
        A list of str, the index being the id.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not UTF-8 or holds no line.
    """
    return [token_of_line(line) for line in read_vocabulary_lines(path)]


def write_vocabulary(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    r"""Writes a vocabulary file, whole or not at all.

    Args:
        path: the file to write or replace.
        lines: the tokens in the order of their ids.

    Raises:
        ValueError: if a token holds a `\n`.
    """
    lines = list(lines)
    for index, line in enumerate(lines):
        if "\n" in line:
            raise ValueError(
                f"Token {index}, {line!r}, holds a line break and cannot be written to "
                "a vocabulary file."
            )
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes("".join(f"{line}\n" for line in lines).encode())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class TokenIds(dict[str, int]):
    """The ids of tokens; looking up any other token gives the unknown one.

    `in` and `get` tell known tokens as usual.

    Args:
        ids: the id of each token.
        unk_token: the token in place of unknown ones, or None.
    """

    def __init__(self, ids: Mapping[str, int], unk_token: str | None):
        super().__init__(ids)
        self._unknown = None if unk_token is None else ids[unk_token]

    def __missing__(self, token: str) -> int:
        if self._unknown is None:
            raise ValueError(
                f"{token!r} is not in the vocabulary, and the tokenizer has no "
                "`unk_token` to put in its place."
            )
        return self._unknown


def index_vocabulary(tokens: Sequence[str]) -> dict[str, int]:
    """Maps tokens to their ids.

    Args:
        tokens: the tokens in the order of their ids.

    Returns:
        A dict from token to id.

    Raises:
        TypeError: if a token is not a str.
        ValueError: if two ids have the same token.
    """
    ids: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            raise TypeError(
                f"The vocabulary must be made of str; entry {index} is {token!r}."
            )
        first = ids.setdefault(token, index)
        if first != index:
            raise ValueError(
                f"The vocabulary has {token!r} twice, as ids {first} and {index} "
                f"(lines {first + 1} and {index + 1}). Ids are line numbers, so do not "
                "delete a line: give the copy that the model does not use another "
                f"name, such as '[unused{index}]'."
            )
    return ids


def lines_of_vocabulary(
    vocabulary: str | os.PathLike[str] | Iterable[str] | Mapping[str, int],
) -> list[str]:
    """Lists a vocabulary in whatever form it comes.

    Args:
        vocabulary: a path, the tokens in order, or a `{token: id}` mapping.

    Returns:
        A list of str: the lines of the file, or the tokens.

    Raises:
        TypeError: if it is none of these.
        ValueError: as `read_vocabulary_lines` and `tokens_of_mapping`.
    """
    if isinstance(vocabulary, str | os.PathLike):
        return read_vocabulary_lines(vocabulary)
    if isinstance(vocabulary, Mapping):
        return tokens_of_mapping(vocabulary)
    if isinstance(vocabulary, Set) or not isinstance(vocabulary, Iterable):
        raise TypeError(
            "`vocabulary` must be a path, a sequence of tokens or a {token: id} "
            f"mapping, not {type(vocabulary).__name__}."
        )
    return list(vocabulary)


def check_special_tokens(
    special: Mapping[str, str | None], ids: Container[str]
) -> None:
    """Checks that the special tokens are in the vocabulary.

    Args:
        special: the tokens by the names of the arguments that set them; None for those
            that are not used.
        ids: the tokens there are.

    Raises:
        ValueError: if some are missing; it names them all.
    """
    missing = {name: token for name, token in special.items() if token is not None}
    missing = {name: token for name, token in missing.items() if token not in ids}
    if missing:
        raise ValueError(
            f"The vocabulary lacks {', '.join(missing.values())}. Add them, or name "
            f"what it has instead, or pass {', '.join(f'{n}=None' for n in missing)}."
        )


def tokens_of_mapping(mapping: Mapping[str, int]) -> list[str]:
    """Lists the tokens of a `{token: id}` mapping in the order of their ids.

    Args:
        mapping: the ids, which must be 0, 1, ... without a gap.

    Returns:
        A list of str.

    Raises:
        ValueError: if the ids have gaps or repeat.
    """
    tokens = sorted(mapping, key=lambda token: mapping[token])
    for index, token in enumerate(tokens):
        if mapping[token] != index:
            raise ValueError(
                f"The ids of a vocabulary must be 0 to {len(tokens) - 1}, each once; "
                f"{token!r} has {mapping[token]!r} where {index} was expected."
            )
    return tokens


def simplify_vocabulary(
    tokens: Sequence[str], start_with: Iterable[str] = ()
) -> tuple[list[str], list[int]]:
    """Drops the tokens that wordpiece cannot produce from Chinese text.

    Those are tokens of several characters with an ideograph or a punctuation mark among
    them, for such characters always stand alone. The special tokens are of this kind:
    name the ones to keep in `start_with`. It is what bert4keras calls
    `load_vocab(simplified=True, startswith=...)`.

    Args:
        tokens: the full vocabulary.
        start_with: tokens to keep whatever they are, placed first.

    Returns:
        The kept tokens, and as many ids of the full vocabulary (`keep_tokens`) to pass
        on to the model.

    Raises:
        ValueError: if `start_with` has a token that is not in the vocabulary.
    """
    ids = index_vocabulary(tokens)
    keep: dict[int, None] = {}
    for token in start_with:
        if token not in ids:
            raise ValueError(f"{token!r} of `start_with` is not in the vocabulary.")
        keep[ids[token]] = None
    keep |= {i: None for i, token in enumerate(tokens) if not is_redundant(token)}
    return [tokens[index] for index in keep], list(keep)


def is_redundant(token: str) -> bool:
    """Says whether wordpiece can never produce a token.

    Args:
        token: a token of a character vocabulary.

    Returns:
        True if the token has more than one character, `##` counted, and one of them
        (`##` not counted) is an ideograph or a punctuation mark.
    """
    classes = unicode_tables().classes
    return len(token) > 1 and any(
        classes[ord(char)] & (CJK | PUNCTUATION) for char in token.removeprefix("##")
    )
