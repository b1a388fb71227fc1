"""Cutting Chinese text into the words of jieba's dictionary, faster than jieba."""

import importlib
import logging
import math
import re
import sys
import warnings

from bert4keras3.text.wordpiece import Remembered

_NEVER = -math.inf
ALPHANUMERIC = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
# Runs in which words are looked for; any other character is a word.
_IN_BLOCK = re.compile(r"[\u4e00-\u9fd5a-zA-Z0-9+#&._%\-]")
_BLOCKS = re.compile(rf"{_IN_BLOCK.pattern}+|\r\n|.", re.DOTALL)


class Jieba:
    """Finds the most probable words of a text, as `jieba.cut(text, HMM=False)` does.

    Words are independent with the frequencies `f` of jieba's dictionary: of all ways to
    cut a run of characters the one with the greatest `sum(log f - log total)` is taken,
    found from the right by dynamic programming, the longer word if two are equal.
    Letters and digits that are left over one by one are joined. The released word-level
    RoFormer was trained on these words.

    The dictionary is jieba's own, so words added with `jieba.add_word` or
    `jieba.load_userdict` count. Delete words before the first use.

    Raises:
        ImportError: if jieba is not installed.

    Example:

    >>> Jieba()("北京大学的模型")
    ['北京大学', '的', '模型']
    """

    def __init__(self):
        # jieba announces its dictionary on stderr; whoever imported it may want that.
        quiet = "jieba" not in sys.modules
        try:
            with warnings.catch_warnings():
                # Old string escapes in jieba are warnings on Python 3.12.
                warnings.simplefilter("ignore")
                jieba = importlib.import_module("jieba")
        except ImportError as error:
            raise ImportError(
                "Word-level tokenization cuts text with jieba, which is not installed. "
                "Install this library with its extra `words`, or run "
                "`pip install jieba`."
            ) from error
        if quiet:
            jieba.setLogLevel(logging.WARNING)
        self._dictionary = jieba.dt
        self._scores: _Scores | None = None

    def __call__(self, text: str) -> list[str]:
        """Cuts a text.

        Args:
            text: a str.

        Returns:
            The words, which joined give the text.
        """
        scores = self._current_scores()
        words: list[str] = []
        for block in _BLOCKS.findall(text):
            if len(block) == 1 or block == "\r\n":
                words.append(block)
            else:
                _cut(block, scores.best_ends(block), words)
        return words

    def frequencies(self) -> tuple[dict[str, int], int]:
        """The dictionary as it is now.

        Returns:
            How often each word was seen, 0 for what only begins words, and the total.
        """
        self._dictionary.check_initialized()
        return dict(self._dictionary.FREQ), self._dictionary.total

    def _current_scores(self):
        scores, dictionary = self._scores, self._dictionary
        dictionary.check_initialized()
        if scores is None or scores.total != dictionary.total:
            scores = self._scores = _Scores(dictionary.FREQ, dictionary.total)
        return scores


def is_in_block(char: str) -> bool:
    """Says whether a character is one of those between which words are looked for."""
    return _IN_BLOCK.fullmatch(char) is not None


def _cut(block, ends, words):
    """Appends the words of a block, with its left-over letters and digits joined."""
    start, letters = 0, 0
    while start < len(block):
        end = ends[start]
        if end == start + 1 and block[start] in ALPHANUMERIC:
            letters += 1
        else:
            if letters:
                words.append(block[start - letters : start])
                letters = 0
            words.append(block[start:end])
        start = end
    if letters:
        words.append(block[start - letters :])


class _Scores:
    """The logarithms of relative frequencies, for one state of the dictionary."""

    def __init__(self, frequencies, total):
        self.total = total
        self._frequencies = frequencies
        self._log_total = math.log(total)
        self._none = math.log(1) - self._log_total
        # The whole dictionary is far larger than a processor's cache; what texts really
        # hold is not.
        self._beginnings = Remembered(self._beginning)
        self._longer = Remembered(self._score)

    def best_ends(self, block):
        """For each position the end of the best word that starts there."""
        beginnings, longer = self._beginnings, self._longer
        length = len(block)
        ends = list(range(1, length + 1))
        totals = [0.0] * (length + 2)
        for start in range(length - 1, -1, -1):
            first, second, goes_on = beginnings[block[start : start + 2]]
            best = first + totals[start + 1]
            total = second + totals[start + 2]
            if total >= best and second > _NEVER:
                best, ends[start] = total, start + 2
            end = start + 3
            while goes_on and end <= length:
                score, goes_on = longer[block[start:end]]
                total = score + totals[end]
                if total >= best and score > _NEVER:
                    best, ends[start] = total, end
                end += 1
            if best == _NEVER:
                best = self._none + totals[start + 1]
            totals[start] = best
        return ends

    def _beginning(self, pair):
        """Scores of the first character and of both, and whether more may follow."""
        first, goes_on = self._score(pair[0])
        if not goes_on:
            return self._none, _NEVER, False
        return first, *(self._score(pair) if len(pair) == 2 else (_NEVER, False))

    def _score(self, word):
        """The score of a word, and whether longer words may begin with it."""
        # Beginnings of words are in the dictionary too, with frequency 0.
        frequency = self._frequencies.get(word)
        score = math.log(frequency) - self._log_total if frequency else _NEVER
        return score, frequency is not None
