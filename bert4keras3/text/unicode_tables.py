"""The frozen Unicode table: what every code point is, on every Python alike.

`unicodedata` and `str.lower` change with the interpreter (5,116 code points between
Unicode 13 and 15.1), and with them the token ids of a text. The tokenizers therefore
read the record of Unicode 14 in `unicode_14.npz`, which `tools/make_unicode_tables.py`
writes, and never ask the interpreter.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NUM_CODE_POINTS = 0x110000

# Bits of `UnicodeTables.classes`.
PUNCTUATION = 1 << 0  # category P*, or an ASCII symbol
CJK = 1 << 1  # the ideograph blocks that get a space on either side
SPACE = 1 << 2  # ends a word
CONTROL = 1 << 3  # vanishes: Cc and Cf that are no space, NUL, U+FFFD
MARK = 1 << 4  # category Mn, stripped when lower-casing
CASED = 1 << 5  # has case, for the final sigma
CASE_IGNORABLE = 1 << 6  # is looked through, for the final sigma
DIGIT = 1 << 7  # category Nd

HANGUL_BASE, HANGUL_COUNT = 0xAC00, 11172
_LEAD_BASE, _VOWEL_BASE, _TAIL_BASE = 0x1100, 0x1161, 0x11A7
_NUM_VOWELS, _NUM_TAILS = 21, 28


@dataclass(frozen=True)
class UnicodeTables:
    """The frozen properties of all code points.

    Attributes:
        version: the Unicode version, `"14.0.0"`.
        classes: uint8 array `(0x110000,)`, the class bits of each code point.
        combining: uint8 array `(0x110000,)`, the canonical combining classes.
        lower: the lower-case string of each code point that has another one.
        decomposition: the full canonical decomposition (NFD) of each code point that
            has one, except the Hangul syllables, which `decompose` computes.

    Example:

    >>> tables = unicode_tables()
    >>> bool(tables.classes[ord("，")] & PUNCTUATION)
    True
    >>> ascii(tables.decompose(ord("é")))
    "'e\\\\u0301'"
    """

    version: str
    classes: np.ndarray
    combining: np.ndarray
    lower: dict[int, str]
    decomposition: dict[int, str]

    def decompose(self, code: int) -> str:
        """Gives the full canonical decomposition (NFD) of one code point.

        Args:
            code: the code point.

        Returns:
            A str, the character itself where it does not decompose.
        """
        index = code - HANGUL_BASE
        if 0 <= index < HANGUL_COUNT:
            lead, rest = divmod(index, _NUM_VOWELS * _NUM_TAILS)
            vowel, tail = divmod(rest, _NUM_TAILS)
            jamo = chr(_LEAD_BASE + lead) + chr(_VOWEL_BASE + vowel)
            return jamo + chr(_TAIL_BASE + tail) if tail else jamo
        return self.decomposition.get(code) or chr(code)

    def ranges(self, selected: np.ndarray) -> list[tuple[int, int]]:
        """Turns a selection of code points into ranges.

        Args:
            selected: bool array `(n,)`, indexed by code point.

        Returns:
            A list of `(first, last)`, both inclusive.
        """
        edges = np.flatnonzero(np.diff(np.pad(selected.astype(np.int8), 1)))
        return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


@functools.cache
def unicode_tables() -> UnicodeTables:
    """Reads the frozen table, once per process.

    Returns:
        The `UnicodeTables`.
    """
    path = Path(__file__).with_name("unicode_14.npz")
    with np.load(path, allow_pickle=False) as arrays:
        return UnicodeTables(
            version=str(arrays["version"]),
            classes=_expand(arrays["classes_starts"], arrays["classes_values"]),
            combining=_expand(arrays["combining_starts"], arrays["combining_values"]),
            lower=_mapping(arrays, "lower"),
            decomposition=_mapping(arrays, "decomposition"),
        )


def _expand(starts, values):
    lengths = np.diff(starts.astype(np.int64), append=NUM_CODE_POINTS)
    expanded = np.repeat(values, lengths)
    expanded.flags.writeable = False
    return expanded


def _mapping(arrays, name):
    joined = "".join(map(chr, arrays[f"{name}_codes"].tolist()))
    ends = arrays[f"{name}_ends"].tolist()
    rows = zip(arrays[f"{name}_keys"].tolist(), [0, *ends], ends, strict=False)
    return {key: joined[start:end] for key, start, end in rows}
