"""Lower-casing, accent stripping and the splitting of characters, on frozen tables."""

import functools
import re

import numpy as np

from bert4keras3.text.unicode_tables import (
    CASE_IGNORABLE,
    CASED,
    CJK,
    CONTROL,
    MARK,
    PUNCTUATION,
    SPACE,
    unicode_tables,
)

CAPITAL_SIGMA = "\u03a3"
_SIGMA, _FINAL_SIGMA = "\u03c3", "\u03c2"


def normalize_text(text: str) -> str:
    """Lower-cases a text, decomposes it (NFD) and drops the nonspacing marks.

    This is what an uncased vocabulary was made with: `"Café"` becomes `"cafe"`. The
    result equals `str.lower`, then NFD, then dropping category Mn, with the tables of
    Unicode 14 whatever the interpreter.

    Args:
        text: a str.

    Returns:
        A str. Lone surrogates and unassigned code points stay as they are.

    Example:

    >>> normalize_text("Été ΟΔΟΣ")  # with a final sigma
    'ete οδος'
    """
    if text.isascii():
        return text.lower()
    text = lower_sigmas(text)
    if _needs_reordering(text):
        return normalize_with_sources(text)[0]
    return text.translate(_normalized())


def normalize_with_sources(text: str) -> tuple[str, list[int]]:
    """Does the same as `normalize_text` and says where each character came from.

    Args:
        text: a str.

    Returns:
        The normalized str, and as many ints: the index in `text` behind each of its
        characters.
    """
    text = lower_sigmas(text)
    table = _normalized()
    chars: list[str] = []
    sources: list[int] = []
    for index, char in enumerate(text):
        replacement = table[ord(char)]
        chars.extend(replacement)
        sources.extend([index] * len(replacement))
    if _needs_reordering(text):
        order = _canonical_order(text)
        chars = [chars[i] for i in order]
        sources = [sources[i] for i in order]
    return "".join(chars), sources


def lower_sigmas(text: str) -> str:
    """Lower-cases the capital sigmas of a text, the only letter that looks around.

    A sigma is final when a cased letter comes before it and none after it, both seen
    through case-ignorable characters (Unicode 3.13, Final_Sigma).

    Args:
        text: a str.

    Returns:
        A str of the same length.
    """
    if CAPITAL_SIGMA not in text:
        return text
    classes = _class_bytes()
    chars = list(text)
    for index, char in enumerate(text):
        if char == CAPITAL_SIGMA:
            before = _is_cased(classes, text, range(index - 1, -1, -1))
            after = _is_cased(classes, text, range(index + 1, len(text)))
            chars[index] = _FINAL_SIGMA if before and not after else _SIGMA
    return "".join(chars)


def space_out(text: str) -> str:
    """Puts spaces around CJK characters and punctuation and drops the controls.

    After this `str.split` gives the words that wordpiece works on. Every kind of white
    space becomes a plain space.

    Args:
        text: a str, normalized if the vocabulary is uncased.

    Returns:
        A str.
    """
    return text.translate(_spaced())


def is_kept(char: str) -> bool:
    """Says whether a character is part of a word: neither white space nor dropped."""
    return _spaced()[ord(char)] not in ("", " ")


@functools.cache
def standalone_class(lowercase: bool) -> str:
    """The characters that are a word of their own, as the inside of a regex class.

    Ideographs and punctuation that normalization leaves alone. Only those below
    U+10000: `re` tests a class up there range by range, and they are rare.

    Args:
        lowercase: whether texts are normalized.

    Returns:
        A str for use between `[` and `]`.
    """
    return _regex_class(_standalone(lowercase))


@functools.cache
def standalone_characters(lowercase: bool) -> frozenset[str]:
    """The members of `standalone_class`.

    Args:
        lowercase: whether texts are normalized.

    Returns:
        A frozenset of single characters.
    """
    return frozenset(map(chr, np.flatnonzero(_standalone(lowercase)).tolist()))


@functools.cache
def space_class() -> str:
    """The white space that ends words, as the inside of a regex class."""
    return _regex_class((unicode_tables().classes & SPACE) != 0)


def _standalone(lowercase):
    tables = unicode_tables()
    selected = (tables.classes[:0x10000] & (PUNCTUATION | CJK)) != 0
    if lowercase:
        changed = [c for c in (*tables.lower, *tables.decomposition) if c < 0x10000]
        selected[changed] = False
        selected &= (tables.classes[:0x10000] & MARK) == 0
    return selected


@functools.cache
def _normalized():
    tables = unicode_tables()
    classes = _class_bytes()

    def normalize(code):
        lowered = tables.lower.get(code) or chr(code)
        decomposed = "".join(tables.decompose(ord(char)) for char in lowered)
        return "".join(c for c in decomposed if not classes[ord(c)] & MARK)

    return _CharacterTable(normalize)


@functools.cache
def _spaced():
    classes = _class_bytes()

    def space(code):
        char, bits = chr(code), classes[code]
        if bits & (PUNCTUATION | CJK):
            return f" {char} "
        if bits & SPACE:
            return " "
        return "" if bits & CONTROL else char

    return _CharacterTable(space)


class _CharacterTable(dict):
    """A table for `str.translate` that works each code point out when it is met."""

    def __init__(self, replace):
        super().__init__()
        self._replace = replace

    def __missing__(self, code):
        replacement = self[code] = self._replace(code)
        return replacement


@functools.cache
def _class_bytes():
    # Indexing bytes is several times faster than indexing an array.
    return unicode_tables().classes.tobytes()


def _is_cased(classes, text, indices):
    for index in indices:
        bits = classes[ord(text[index])]
        if not bits & CASE_IGNORABLE:
            return bool(bits & CASED)
    return False


@functools.cache
def _reorderable():
    """Finds characters that NFD may move and that are not stripped."""
    tables = unicode_tables()
    moving = (tables.combining != 0) & ((tables.classes & MARK) == 0)
    for code, decomposed in tables.decomposition.items():
        if any(moving[ord(char)] for char in decomposed):
            moving[code] = True
    return re.compile(f"[{_regex_class(moving)}]")


def _needs_reordering(text):
    matches = _reorderable().finditer(text)
    return next(matches, None) is not None and next(matches, None) is not None


def _canonical_order(text):
    """The order that NFD gives to the characters that `_normalized` puts in place."""
    tables, table = unicode_tables(), _normalized()
    order: list[int] = []
    block: list[tuple[int, int]] = []
    for char in text:
        replacement = table[ord(char)]
        for part in replacement or tables.decompose(ord(char)):
            combining = int(tables.combining[ord(part)])
            if combining == 0:
                order.extend(index for _, index in sorted(block))
                block = []
            if replacement:
                index = len(order) + len(block)
                if combining:
                    block.append((combining, index))
                else:
                    order.append(index)
    order.extend(index for _, index in sorted(block))
    return order


def _regex_class(selected: np.ndarray) -> str:
    return "".join(
        f"{re.escape(chr(first))}-{re.escape(chr(last))}"
        for first, last in unicode_tables().ranges(selected)
    )
