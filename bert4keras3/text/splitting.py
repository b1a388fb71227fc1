"""From a raw text to its tokens: special tokens, words, pieces, replacements."""

import functools
import re
from collections.abc import Iterable, Mapping

from bert4keras3.text.pre_tokenization import PreTokenize, WordLevel
from bert4keras3.text.vocabulary import TokenIds
from bert4keras3.text.wordpiece import Span, WordPiece


class Splitter:
    """Cuts texts into tokens, with or without their places.

    Args:
        vocabulary: the ids of the known tokens, and of the others.
        lowercase: whether to lower-case and strip accents.
        max_word_length: the longest word that wordpiece cuts.
        pre_tokenize: cuts into words first, or None.
        translate: `{token: token}`, what to put in the place of a token.
    """

    def __init__(
        self,
        vocabulary: TokenIds,
        lowercase: bool,
        max_word_length: int,
        pre_tokenize: PreTokenize | None = None,
        translate: Mapping[str, str] | None = None,
    ):
        settings = vocabulary, lowercase, max_word_length
        self._vocabulary = vocabulary
        self._translate = translate or {}
        self._words: WordPiece | WordLevel = (
            WordLevel(pre_tokenize, *settings) if pre_tokenize else WordPiece(*settings)
        )
        self._cut = self._cut_and_translate if translate else self._words.split
        self._cut_to_ids = self._translated_ids if translate else self._words.ids

    def split(self, text: str, special: tuple[str, ...] = ()) -> list[str]:
        """Cuts a text into tokens.

        Args:
            text: a str.
            special: tokens to recognise in it, from `check_special`.

        Returns:
            A list of str.
        """
        if not special:
            return self._cut(text)
        tokens: list[str] = []
        position = 0
        for match in _alternatives(special).finditer(text):
            tokens += self._cut(text[position : match.start()])
            tokens.append(match.group())
            position = match.end()
        return tokens + self._cut(text[position:])

    def ids(self, text: str, special: tuple[str, ...] = ()) -> list[int]:
        """Gives the ids of the tokens of `split`.

        Args:
            text, special: as for `split`.

        Returns:
            A list of int.
        """
        if not special:
            return self._cut_to_ids(text)
        return [self._vocabulary[token] for token in self.split(text, special)]

    def spans(self, text: str, special: tuple[str, ...] = ()) -> list[Span]:
        """Gives the half-open character span of each token of `split`.

        Args:
            text, special: as for `split`.

        Returns:
            A list of `(start, end)`.
        """
        if not special:
            return self._words.spans(text)
        spans: list[Span] = []
        position = 0
        for match in _alternatives(special).finditer(text):
            spans += self._spans_of_slice(text, position, match.start())
            spans.append(match.span())
            position = match.end()
        return spans + self._spans_of_slice(text, position, len(text))

    def check_special(self, special: Iterable[str]) -> tuple[str, ...]:
        """Takes the special tokens to recognise in texts.

        Args:
            special: tokens, or one token.

        Returns:
            A tuple of str.

        Raises:
            ValueError: if one is not in the vocabulary.
        """
        if special == ():
            return ()
        tokens = (special,) if isinstance(special, str) else tuple(special)
        for token in tokens:
            if not token or token not in self._vocabulary:
                raise ValueError(
                    f"{token!r} of `allow_special` is not a token of the vocabulary."
                )
        return tokens

    def _cut_and_translate(self, text):
        translate = self._translate
        return [translate.get(token) or token for token in self._words.split(text)]

    def _translated_ids(self, text):
        return [self._vocabulary[token] for token in self._cut_and_translate(text)]

    def _spans_of_slice(self, text, start, end):
        spans = self._words.spans(text[start:end])
        return [(start + first, start + last) for first, last in spans]


@functools.lru_cache(maxsize=64)
def _alternatives(tokens):
    # The longest first, for a token may be the beginning of another.
    ordered = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)))
