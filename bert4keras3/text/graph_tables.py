"""What a tokenizer inside a TensorFlow graph looks up: characters and pieces.

Everything is a NumPy array here; `GraphTokenizer` makes variables of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bert4keras3.text.normalization import CAPITAL_SIGMA, normalize_text
from bert4keras3.text.unicode_tables import (
    CASE_IGNORABLE,
    CASED,
    CJK,
    CONTROL,
    MARK,
    NUM_CODE_POINTS,
    PUNCTUATION,
    SPACE,
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
        pages: int32 `(0x1100,)`, the number of the page of each 256 code points.
        entries: int32 `(pages * 256,)`. Below `SLOW`: `value << 2 | kind`, where the
            value of a `STANDALONE` character is its token id, and that of a `WORD`
            character its symbol in the trie. From `SLOW` on: `SLOW` and a row of
            `starts`, for characters that become several, none, or depend on others.
        starts: int32 `(rows + 1,)`, where the parts of each row begin in `parts`.
        parts: int32, the entries of the parts, all below `SLOW`.
        orders: int32, of each part: its canonical combining class, for the order of
            marks.
        barriers: bool `(rows,)`, whether a character without parts ends a sequence of
            marks all the same.
        sigma: int, the row of the capital sigma, -1 if it is not lowered.
        sigmas: int32 `(2,)`, the entries of the sigma and of the final one.
        properties: int8 `(pages * 256,)`: 1 for cased characters, 2 for those that the
            final sigma looks through.
    """

    pages: np.ndarray
    entries: np.ndarray
    starts: np.ndarray
    parts: np.ndarray
    orders: np.ndarray
    barriers: np.ndarray
    sigma: int
    sigmas: np.ndarray
    properties: np.ndarray


@dataclass(frozen=True)
class Trie:
    """A double-array trie: from `state` by `symbol` to `bases[state] + symbol`.

    That is a state if `parents` of it is `state`. State 0 is where a word begins, state
    1 where it goes on (`##`).

    Attributes:
        bases: int32 `(states,)`.
        parents: int32 `(states,)`, -1 where there is no state.
        ids: int32 `(states,)`, the token that ends in a state, -1 if none does.
    """

    bases: np.ndarray
    parents: np.ndarray
    ids: np.ndarray


def symbols_of(tokens: Iterable[str]) -> dict[int, int]:
    """Number the code points of pieces of words, from 1; all others are symbol 0."""
    found = sorted({ord(char) for token in tokens for char in token})
    return {code: number for number, code in enumerate(found, 1)}


def kinds_of_code_points() -> np.ndarray:
    """Return what each code point is, int32 `(0x110000,)`, as `space_out` has it."""
    classes = unicode_tables().classes
    kinds = np.full(NUM_CODE_POINTS, WORD, np.int32)
    kinds[(classes & CONTROL) != 0] = DROPPED
    kinds[(classes & SPACE) != 0] = BLANK
    kinds[(classes & (PUNCTUATION | CJK)) != 0] = STANDALONE
    return kinds


def character_table(
    ids: dict[str, int], unknown: int, symbols: dict[int, int], lowercase: bool
) -> CharacterTable:
    """Tabulate normalization, spacing and the tokens of single characters.

    Args:
        ids: token ids.
        unknown: the id of what is not among them.
        symbols: symbols of the trie by code point.
        lowercase: whether texts are lower-cased and stripped of accents.
    """
    tables = unicode_tables()
    kinds = kinds_of_code_points()
    values = np.zeros(NUM_CODE_POINTS, np.int32)
    for code, symbol in symbols.items():
        if kinds[code] == WORD:
            values[code] = symbol
    standalone = np.flatnonzero(kinds == STANDALONE)
    values[standalone] = unknown
    for token, number in ids.items():
        if len(token) == 1 and kinds[ord(token)] == STANDALONE:
            values[ord(token)] = number
    plain = values << KIND_BITS | kinds
    entries = plain.copy()
    starts: list[int] = [0]
    parts: list[int] = []
    orders: list[int] = []
    barriers: list[bool] = []
    sigma = -1
    if lowercase:
        combining = tables.combining
        changed = set(tables.lower) | set(tables.decomposition)
        changed |= set(np.flatnonzero(tables.classes & MARK).tolist())
        changed |= set(np.flatnonzero(combining).tolist())
        changed |= set(range(0xAC00, 0xAC00 + 11172))
        for code in sorted(changed):
            char = chr(code)
            normalized = normalize_text(char)
            if len(normalized) == 1 and not combining[ord(normalized)]:
                if char != CAPITAL_SIGMA:
                    entries[code] = plain[ord(normalized)]
                    continue
            if char == CAPITAL_SIGMA:
                sigma = len(barriers)
            entries[code] = SLOW + len(barriers)
            numbers = list(map(ord, normalized))
            parts += plain[numbers].tolist()
            orders += combining[numbers].tolist()
            starts.append(len(parts))
            decomposed = tables.decompose(code)
            barriers.append(
                not normalized and any(not combining[ord(c)] for c in decomposed)
            )
    classes = tables.classes
    properties = (classes & CASED != 0) + 2 * (classes & CASE_IGNORABLE != 0)
    pages, (entries, properties) = _paged(entries, properties.astype(np.int8))
    return CharacterTable(
        pages=pages,
        entries=entries,
        starts=np.array(starts, np.int32),
        parts=np.array(parts, np.int32),
        orders=np.array(orders, np.int32),
        barriers=np.array(barriers, bool),
        sigma=sigma,
        sigmas=plain[[0x3C3, 0x3C2]],
        properties=properties,
    )


def _paged(*columns: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number the distinct pages of columns of all code points."""
    cut = [column.reshape(-1, 1 << PAGE_BITS) for column in columns]
    joined = np.concatenate([each.astype(np.int64) for each in cut], axis=1)
    _, first, pages = np.unique(joined, axis=0, return_index=True, return_inverse=True)
    return pages.reshape(-1).astype(np.int32), [each[first].ravel() for each in cut]


def build_trie(
    starts: dict[str, int], continuations: dict[str, int], symbols: dict[int, int]
) -> Trie:
    """Build the trie of what begins words and of what continues them.

    Args:
        starts: token ids by text.
        continuations: token ids by text, without the `##`.
        symbols: symbols by code point.
    """
    children: list[dict[int, int]] = [{}, {}]  # of nodes, numbered as they are made
    ids = [-1, -1]
    for root, pieces in enumerate((starts, continuations)):
        for piece, number in pieces.items():
            node = root
            for char in piece:
                symbol = symbols[ord(char)]
                if symbol not in children[node]:
                    children[node][symbol] = len(children)
                    children.append({})
                    ids.append(-1)
                node = children[node][symbol]
            ids[node] = number
    return _double_array(children, ids, len(symbols) + 1)


def _double_array(children: list[dict[int, int]], ids: list[int], width: int) -> Trie:
    """Lay the nodes out so that no two want one place."""
    size = len(children) + 2 * width
    bases, parents = np.zeros(size, np.int32), np.full(size, -1, np.int32)
    found = np.full(size, -1, np.int32)
    taken = np.zeros(size, bool)
    taken[:2] = True
    waiting = [(0, 0), (1, 1)]  # node and its state
    first_free = 2
    for node, state in waiting:  # it grows on the way
        found[state] = ids[node]
        symbols = np.array(sorted(children[node]), np.int64)
        if not len(symbols):
            continue
        while taken[first_free]:
            first_free += 1
        base = max(1, first_free - int(symbols[0]))
        while True:
            while base + symbols[-1] + 1 >= len(taken):
                grow = len(taken)
                taken = np.concatenate([taken, np.zeros(grow, bool)])
                bases = np.concatenate([bases, np.zeros(grow, np.int32)])
                parents = np.concatenate([parents, np.full(grow, -1, np.int32)])
                found = np.concatenate([found, np.full(grow, -1, np.int32)])
            if not taken[base + symbols].any():
                break
            base += 1
        bases[state] = base
        for symbol in symbols.tolist():
            place = base + symbol
            taken[place] = True
            parents[place] = state
            waiting.append((children[node][symbol], place))
    # A step by any symbol from any state stays inside.
    end = int(np.flatnonzero(taken)[-1]) + 1 + width
    pad = max(0, end - len(taken))
    return Trie(
        np.pad(bases, (0, pad))[:end],
        np.pad(parents, (0, pad), constant_values=-1)[:end],
        np.pad(found, (0, pad), constant_values=-1)[:end],
    )
