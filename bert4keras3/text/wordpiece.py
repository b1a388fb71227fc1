"""Greedy longest-match wordpiece, with or without the place of each piece."""

import re
from collections.abc import Callable, Mapping, Sequence

from bert4keras3.text.normalization import (
    CAPITAL_SIGMA,
    is_kept,
    lower_sigmas,
    normalize_text,
    normalize_with_sources,
    space_class,
    space_out,
    standalone_characters,
    standalone_class,
)

Span = tuple[int, int]

_MAX_REMEMBERED_WORDS = 1 << 16
_MAX_REMEMBERED_LENGTH = 64


class WordPiece:
    """Splits text into ideographs, punctuation and pieces of words.

    The text is cut at white space; every CJK character and every punctuation mark is a
    word; controls vanish. A word is then covered from the left by the longest pieces of
    the vocabulary, all but the first written with `##`. A word that cannot be covered,
    or is longer than `max_word_length`, stays one token. Runs in time linear in the
    text. Reference: [Wu et al., 2016](https://arxiv.org/abs/1609.08144), section 4.1.

    Args:
        vocabulary: the ids of the known tokens; `vocabulary[token]` must also answer
            for unknown ones if `ids` is used, as `TokenIds` does.
        lowercase: whether to lower-case and strip accents.
        max_word_length: the longest word that is cut, in (normalized) characters.

    Example:

    >>> wordpiece = WordPiece({"今": 0, "play": 1, "##ing": 2})
    >>> wordpiece.split("今Playing"), wordpiece.ids("今Playing")
    (['今', 'play', '##ing'], [0, 1, 2])
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        lowercase: bool = True,
        max_word_length: int = 200,
    ):
        self._lowercase = lowercase
        self._max_word_length = max_word_length
        self._starts = frozenset(vocabulary)
        self._continuations = frozenset(
            token[2:] for token in self._starts if token.startswith("##")
        )
        self._longest_start = max(map(len, self._starts), default=0)
        self._longest_continuation = max(map(len, self._continuations), default=0)

        standalone, space = standalone_class(lowercase), space_class()
        self._standalone = standalone_characters(lowercase)
        runs = re.compile(f"[{standalone}]+|[^{standalone}{space}]+")
        self._find_runs, self._match_runs = runs.findall, runs.finditer
        self._id_of = vocabulary.__getitem__
        self._remembered = Remembered(self._split_run)
        self._remembered_ids = Remembered(self._ids_of_run)
        self._remembered_spans = Remembered(self._spans_of_run)

    def split(self, text: str) -> list[str]:
        """Cuts a text into tokens.

        Args:
            text: a str.

        Returns:
            A list of str. Tokens that are not in the vocabulary are unknown words.
        """
        if self._lowercase and CAPITAL_SIGMA in text:
            text = lower_sigmas(text)
        tokens: list[str] = []
        standalone, remembered = self._standalone, self._remembered
        for run in self._find_runs(text):
            tokens += run if run[0] in standalone else remembered[run]
        return tokens

    def ids(self, text: str) -> list[int]:
        """Gives the ids of the tokens of a text, faster than looking up `split`.

        Args:
            text: a str.

        Returns:
            A list of int.
        """
        if self._lowercase and CAPITAL_SIGMA in text:
            text = lower_sigmas(text)
        ids: list[int] = []
        standalone, remembered = self._standalone, self._remembered_ids
        id_of = self._id_of
        for run in self._find_runs(text):
            ids += map(id_of, run) if run[0] in standalone else remembered[run]
        return ids

    def spans(self, text: str) -> list[Span]:
        """Says which characters of a text its tokens come from.

        Args:
            text: a str.

        Returns:
            A half-open span `(start, end)` of `text` for each token of `split`. Dropped
            characters at the edge of a token, such as a combining accent after it, are
            outside its span.
        """
        if self._lowercase and CAPITAL_SIGMA in text:
            text = lower_sigmas(text)
        spans: list[Span] = []
        standalone, remembered = self._standalone, self._remembered_spans
        for match in self._match_runs(text):
            start, end = match.span()
            if text[start] in standalone:
                spans += zip(range(start, end), range(start + 1, end + 1), strict=True)
            else:
                for first, last in remembered[text[start:end]]:
                    spans.append((start + first, start + last))
        return spans

    def _split_run(self, run):
        text = normalize_text(run) if self._lowercase else run
        words = space_out(text).split()
        return tuple(piece for word in words for piece in self._cut(word))

    def _ids_of_run(self, run):
        return tuple(map(self._id_of, self._split_run(run)))

    def _spans_of_run(self, run: str) -> tuple[Span, ...]:
        text = run
        sources: Sequence[int] = range(len(run))
        if self._lowercase:
            text, sources = normalize_with_sources(run)
        pairs = zip(text, sources, strict=True)
        kept = [source for char, source in pairs if is_kept(char)]
        spans: list[Span] = []
        position = 0
        for word in space_out(text).split():
            for index, piece in enumerate(self._cut(word)):
                length = len(piece) - 2 if index else len(piece)
                # NFD may have moved characters, so the ends need not be in order.
                covered = kept[position : position + length]
                spans.append((min(covered), max(covered) + 1))
                position += length
        return tuple(spans)

    def _cut(self, word):
        if len(word) > self._max_word_length:
            return [word]
        known, longest, prefix = self._starts, self._longest_start, ""
        pieces: list[str] = []
        start = 0
        while start < len(word):
            for end in range(min(len(word), start + longest), start, -1):
                if word[start:end] in known:
                    break
            else:
                return [word]
            pieces.append(prefix + word[start:end])
            start = end
            known, longest = self._continuations, self._longest_continuation
            prefix = "##"
        return pieces


class Remembered(dict):
    """Remembers what a function gave for short words, in bounded memory.

    Args:
        answer: the function.
    """

    def __init__(self, answer: Callable[[str], tuple]):
        super().__init__()
        self._answer = answer

    def __missing__(self, word):
        answer = self._answer(word)
        if len(word) <= _MAX_REMEMBERED_LENGTH:
            if len(self) >= _MAX_REMEMBERED_WORDS:
                self.clear()
            self[word] = answer
        return answer
