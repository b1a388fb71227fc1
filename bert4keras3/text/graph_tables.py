"""What a tokenizer inside a TensorFlow graph looks up: characters and pieces.

Everything is a NumPy array here; `GraphTokenizer` makes variables of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bert4keras3.text.normalization import CAPITAL_SIGMA, normalize_text
from bert4keras3.text.unicode_tables import (
    CASE_IGNORABLE,
    CASED,
    CJK,
    CONTROL,
    HANGUL_BASE,
    HANGUL_COUNT,
    MARK,
    NUM_CODE_POINTS,
    PUNCTUATION,
    SPACE,
    UnicodeTables,
    unicode_tables,
)

# What a character is after normalization, in the lowest bits of its entry.
WORD, STANDALONE, BLANK, DROPPED = range(4)
KIND_BITS = 2
# Entries from here on are no characters of their own: see `CharacterTable.entries`.
SLOW = 1 << 24
PAGE_BITS = 8


@dataclass(frozen=True)
class CharacterTable:
    """What becomes of each code point, in two levels: page, then place in it.

    Attributes:
        pages: int32 `(0x1101,)`, where the page of each 256 code points begins; the
            last is that of special tokens.
        entries: int32 `(pages * 256 + parts,)`: those of the code points, and behind
            them the parts of those that become several. Below `SLOW`: `value << 2 |
            kind`, where the value of a `STANDALONE` character is its token id, and that
            of a `WORD` character its symbol in the trie of pieces. From `SLOW` on:
            `SLOW` and a row of `starts`, for characters that become several, none, or
            depend on others.
        marks: int32, like the entries: `symbol << 2 | is_letter << 1 | in_block`, for
            the cut into words.
        starts: int32 `(rows + 1,)`, where the parts of each row begin in the entries.
        orders: int32, like the entries: canonical combining classes, for the order of
            marks; 0 for what is below `SLOW` in the pages.
        barriers: int32 `(rows,)`, 1 where a character without parts ends a sequence of
            marks all the same.
        sigma: int, the entry of the capital sigma, -1 if it is not lowered.
        sigmas: int32 `(2,)`, the places of the sigma and of the final one.
        properties: int8, like the pages: 1 for cased characters, 2 for those that the
            final sigma looks through.
    """

    pages: np.ndarray
    entries: np.ndarray
    marks: np.ndarray
    starts: np.ndarray
    orders: np.ndarray
    barriers: np.ndarray
    sigma: int
    sigmas: np.ndarray
    properties: np.ndarray


def kinds_of_code_points() -> np.ndarray:
    """Return what each code point is, int32 `(0x110000,)`, as `space_out` has it."""
    classes = unicode_tables().classes
    kinds = np.full(NUM_CODE_POINTS, WORD, np.int32)
    kinds[(classes & CONTROL) != 0] = DROPPED
    kinds[(classes & SPACE) != 0] = BLANK
    kinds[(classes & (PUNCTUATION | CJK)) != 0] = STANDALONE
    return kinds


def character_table(
    ids: dict[str, int],
    unknown: int,
    symbols: dict[int, int],
    lowercase: bool,
    marks: np.ndarray | None = None,
    special: Sequence[int] = (),
) -> CharacterTable:
    """Tabulate normalization, spacing and the tokens of single characters.

    Args:
        ids: token ids.
        unknown: the id of what is not among them.
        symbols: symbols of the trie of pieces by code point.
        lowercase: whether texts are lower-cased and stripped of accents.
        marks: int32 `(0x110000,)`, if texts are cut into words first. A blank or a
            control that is a token is one then.
        special: token ids, of code points that follow the last one there is.
    """
    tables = unicode_tables()
    kinds = kinds_of_code_points()
    values = np.zeros(NUM_CODE_POINTS, np.int32)
    for code, symbol in symbols.items():
        if kinds[code] == WORD:
            values[code] = symbol
    values[kinds == STANDALONE] = unknown
    for token, number in ids.items():
        if len(token) == 1 and (kinds[ord(token)] == STANDALONE or marks is not None):
            if kinds[ord(token)] != WORD:
                kinds[ord(token)], values[ord(token)] = STANDALONE, number
    plain = values << KIND_BITS | kinds
    marks = np.zeros(NUM_CODE_POINTS, np.int32) if marks is None else marks.copy()
    entries, rows = plain.copy(), _Rows([], [], [], [])
    sigma = -1
    for code in _changed(tables) if lowercase else ():
        normalized = [ord(char) for char in normalize_text(chr(code))]
        orders = tables.combining[np.array(normalized, int)]
        if len(normalized) == 1 and not orders[0] and code != ord(CAPITAL_SIGMA):
            entries[code], marks[code] = plain[normalized[0]], marks[normalized[0]]
            continue
        entries[code] = SLOW + len(rows.barriers)
        if code == ord(CAPITAL_SIGMA):
            sigma = int(entries[code])
        rows.counts.append(len(normalized))
        rows.codes.extend(normalized)
        rows.orders.extend(orders.tolist())
        decomposed = list(map(ord, tables.decompose(code)))
        rows.barriers.append(not normalized and not tables.combining[decomposed].all())
    properties = (tables.classes & CASED != 0) + 2 * (
        tables.classes & CASE_IGNORABLE != 0
    )
    more = np.zeros(1 << PAGE_BITS, np.int32)
    special_entries = more + DROPPED
    for place, number in enumerate(special):
        special_entries[place] = number << KIND_BITS | STANDALONE
    pages, (first, first_marks, properties) = _paged(
        np.concatenate([entries, special_entries]),
        np.concatenate([marks, more]),
        np.concatenate([properties, more]).astype(np.int8),
    )
    pages <<= PAGE_BITS
    codes = np.array(rows.codes, int)
    return CharacterTable(
        pages=pages,
        entries=np.concatenate([first, plain[codes]]),
        marks=np.concatenate([first_marks, marks[codes]]),
        starts=np.cumsum([len(first), *rows.counts], dtype=np.int32),
        orders=np.concatenate([np.zeros_like(first), rows.orders]).astype(np.int32),
        barriers=np.array([*rows.barriers, False], np.int32),
        sigma=sigma,
        sigmas=np.array([pages[3] + 0xC3, pages[3] + 0xC2], np.int32),
        properties=properties,
    )


@dataclass(frozen=True)
class _Rows:
    """What characters become that become several, or none."""

    counts: list[int]
    codes: list[int]
    orders: list[int]
    barriers: list[bool]


def _changed(tables: UnicodeTables) -> list[int]:
    """Return the code points that lower-casing and stripping may change or move."""
    marked = (tables.classes & MARK != 0) | (tables.combining != 0)
    hangul = range(HANGUL_BASE, HANGUL_BASE + HANGUL_COUNT)
    return sorted(
        {
            *tables.lower,
            *tables.decomposition,
            *hangul,
            *np.flatnonzero(marked).tolist(),
        }
    )


def _paged(*columns: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number the distinct pages of columns of all code points."""
    cut = [column.reshape(-1, 1 << PAGE_BITS) for column in columns]
    joined = np.concatenate([each.astype(np.int64) for each in cut], axis=1)
    _, first, pages = np.unique(joined, axis=0, return_index=True, return_inverse=True)
    return pages.reshape(-1).astype(np.int32), [each[first].ravel() for each in cut]
