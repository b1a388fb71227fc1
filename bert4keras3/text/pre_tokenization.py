"""Cutting text into words before wordpiece, as the word-level models need."""

from collections.abc import Callable, Iterable, Mapping

from bert4keras3.text.jieba_words import Jieba
from bert4keras3.text.normalization import normalize_text, normalize_with_sources
from bert4keras3.text.wordpiece import Remembered, Span, WordPiece

PreTokenize = Callable[[str], Iterable[str]]


_PRE_TOKENIZERS: dict[str, Callable[[], PreTokenize]] = {"jieba": Jieba}


def get(identifier: str | PreTokenize | None) -> PreTokenize | None:
    """Finds a pre-tokenizer.

    Args:
        identifier: `"jieba"`, a function from str to the words of it, or None.

    Returns:
        The function, or None.

    Raises:
        ValueError: for an unknown name.
        TypeError: for anything else.
        ImportError: if the package behind a name is not installed.
    """
    if identifier is None:
        return None
    if isinstance(identifier, str):
        if identifier not in _PRE_TOKENIZERS:
            raise ValueError(
                f"There is no pre-tokenizer {identifier!r}; known are "
                f"{sorted(_PRE_TOKENIZERS)}, or pass a function from str to words."
            )
        return _PRE_TOKENIZERS[identifier]()
    if not callable(identifier):
        raise TypeError(
            "`pre_tokenize` must be a name or a function from str to words, not "
            f"{type(identifier).__name__}."
        )
    return identifier


class WordLevel:
    """Looks words up whole, and cuts those that are not known by wordpiece.

    Args:
        pre_tokenize: cuts a (normalized) text into words, in order; it may leave out
            white space.
        vocabulary: the known tokens.
        lowercase: whether to lower-case and strip accents, before the cut.
        max_word_length: the longest word that wordpiece cuts.
    """

    def __init__(
        self,
        pre_tokenize: PreTokenize,
        vocabulary: Mapping[str, int],
        lowercase: bool = True,
        max_word_length: int = 200,
    ):
        self._pre_tokenize = pre_tokenize
        self._vocabulary = vocabulary
        self._lowercase = lowercase
        self._wordpiece = WordPiece(vocabulary, lowercase, max_word_length)
        self._remembered = Remembered(self._cut)
        self._remembered_ids = Remembered(self._ids_of_word)

    def split(self, text: str) -> list[str]:
        """Cuts a text into tokens; see `WordPiece.split`."""
        if self._lowercase:
            text = normalize_text(text)
        tokens: list[str] = []
        remembered = self._remembered
        for word in self._pre_tokenize(text):
            tokens += remembered[word]
        return tokens

    def ids(self, text: str) -> list[int]:
        """Gives the ids of the tokens of a text; see `WordPiece.ids`."""
        if self._lowercase:
            text = normalize_text(text)
        ids: list[int] = []
        remembered = self._remembered_ids
        for word in self._pre_tokenize(text):
            ids += remembered[word]
        return ids

    def spans(self, text: str) -> list[Span]:
        """Says where the tokens of a text come from; see `WordPiece.spans`.

        Raises:
            ValueError: if a word from the pre-tokenizer is not in the text.
        """
        sources: list[int] | range = range(len(text))
        if self._lowercase:
            text, sources = normalize_with_sources(text)
        spans: list[Span] = []
        position = 0
        for word in self._pre_tokenize(text):
            start = text.find(word, position)
            if start < 0:
                raise ValueError(
                    f"The pre-tokenizer gave {word!r}, which is not in the rest of "
                    f"the text, {text[position : position + 20]!r}. Offsets need words "
                    "that are parts of the text, in order and unchanged."
                )
            position = start + len(word)
            known = word in self._vocabulary
            places = [(0, len(word))] if known else self._wordpiece.spans(word)
            for first, end in places:
                covered = sources[start + first : start + end]
                spans.append((min(covered), max(covered) + 1))
        return spans

    def _cut(self, word):
        return (
            (word,) if word in self._vocabulary else tuple(self._wordpiece.split(word))
        )

    def _ids_of_word(self, word):
        return tuple(self._vocabulary[token] for token in self._cut(word))
