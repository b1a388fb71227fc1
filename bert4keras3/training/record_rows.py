"""Rows of tokens as records: what is in one, and how a block of text becomes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.corpus import Corpus
from bert4keras3.training.word_segmenters import Segment

__all__ = ["NAMES", "Row", "RowEncoder"]

NAMES = ("token_ids", "word_lengths", "sentence_lengths", "document_lengths")
NUM_SPECIAL_TOKENS = 2  # [CLS] and [SEP], which an objective puts round a row


@dataclass(frozen=True)
class Row:
    """Consecutive tokens, and how they divide into words, sentences and documents.

    The three lists of lengths each add up to the number of tokens. A first or last
    sentence or document may be a part of one.

    Attributes:
        token_ids: int64 `(tokens,)`, without special tokens and padding.
        word_lengths: int64, the tokens of each word.
        sentence_lengths: int64, the tokens of each sentence.
        document_lengths: int64, the tokens of each document.
    """

    token_ids: np.ndarray
    word_lengths: np.ndarray
    sentence_lengths: np.ndarray
    document_lengths: np.ndarray

    def serialize(self) -> bytes:
        """Return the row as a `tf.train.Example` of four lists of integers."""
        from tensorflow.train import Example, Feature, Features, Int64List

        return Example(
            features=Features(
                feature={
                    name: Feature(int64_list=Int64List(value=getattr(self, name)))
                    for name in NAMES
                }
            )
        ).SerializeToString(deterministic=True)


class RowEncoder:
    """Tokenize documents word by word and pack their sentences into rows.

    Args:
        tokenizer: `Tokenizer`.
        segment: a function from a sentence to its words.
        length: int, tokens of a padded row, `[CLS]` and `[SEP]` included.
        across_documents: bool. `False` begins a new row with each document; `True`
            goes on in the same one, which leaves hardly any padding.
        fill: bool. `False` ends each row at a sentence end where it can; `True` at the
            last word that fits.

    Raises:
        ValueError: if `length` leaves no room for a token.

    Example:

    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天气好"])
    >>> encode = RowEncoder(tokenizer, str.split, length=8)
    >>> for row in encode(["天气 好", "好 好 好"]):
    ...     print(*row.word_lengths)
    2 1
    1 1 1
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        segment: Segment,
        length: int,
        across_documents: bool = False,
        fill: bool = False,
    ):
        if length <= NUM_SPECIAL_TOKENS:
            raise ValueError(
                f"A row of {length} tokens has no room beside [CLS] and [SEP]; pass a "
                f"length of at least {NUM_SPECIAL_TOKENS + 1}, usually 128 to 512."
            )
        self.tokenizer = tokenizer
        self.segment = segment
        self.length = length
        self.across_documents = across_documents
        self.fill = fill

    def corpus(self, documents: Iterable[str]) -> Corpus:
        """Tokenize documents; a word of nothing but spaces is left out."""

        def token_ids(word: str) -> list[int]:
            return self.tokenizer.encode(word, add_special_tokens=False).token_ids

        return Corpus.from_documents(documents, token_ids, self.segment)

    def rows(self, corpus: Corpus) -> Iterator[Row]:
        """Pack a corpus, in the order of its text."""
        whole = corpus
        if self.across_documents and len(corpus):
            sentences = len(corpus.sentence_starts) - 1
            whole = Corpus(
                corpus.token_ids,
                corpus.word_starts,
                corpus.sentence_starts,
                np.array([0, sentences], "int64"),
            )
        packed = whole.pack(self.length, self.fill)
        words = np.flatnonzero(corpus.word_starts)
        documents = corpus.sentence_starts[corpus.document_starts]
        for start, stop in zip(packed.starts, packed.stops, strict=True):
            yield Row(
                corpus.token_ids[start:stop].astype("int64"),
                _lengths(words, start, stop),
                _lengths(corpus.sentence_starts, start, stop),
                _lengths(documents, start, stop),
            )

    def __call__(self, documents: Iterable[str]) -> list[Row]:
        """Return the rows of documents."""
        return list(self.rows(self.corpus(documents)))


def _lengths(bounds: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the lengths of the parts of `[start, stop)` between sorted bounds."""
    first = np.searchsorted(bounds, start, side="right")
    last = np.searchsorted(bounds, stop, side="left")
    return np.diff(np.concatenate([[start], bounds[first:last], [stop]]))
