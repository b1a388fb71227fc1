"""Tokenized text, cut into words, sentences and documents, and its rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bert4keras3.training.whole_word_masking import NO_WORD

__all__ = ["Corpus", "PackedRows"]

# A sentence ends behind its closing quotes, with spaces between words or without.
_END, _CLOSE = "。！？；!?;…", "”’」』）)"
_SENTENCE_END = re.compile(
    rf"(?<=[{_END}])(?!\s?[{_END}{_CLOSE}\"'])"
    rf"|(?:(?<=[{_END}][{_CLOSE}])|(?<=[{_END}]\s[{_CLOSE}]))(?!\s?[{_END}{_CLOSE}])"
)


@dataclass(frozen=True)
class PackedRows:
    """Spans of a corpus that become rows of one length.

    Attributes:
        starts: int64 `(rows,)`, the first token of each row.
        stops: int64 `(rows,)`, the token after its last.
    """

    starts: np.ndarray
    stops: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Corpus:
    """Tokenized text: flat arrays, and where words, sentences and documents begin.

    Attributes:
        token_ids: int32 `(tokens,)`.
        word_starts: bool `(tokens,)`, whether a token begins a word.
        sentence_starts: int64 `(sentences + 1,)`, token indices, the end included.
        document_starts: int64 `(documents + 1,)`, *sentence* indices, the end
            included.
    """

    token_ids: np.ndarray
    word_starts: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[str],
        tokenize: Callable[[str], Sequence[int]],
        segment: Callable[[str], Iterable[str]] | None = None,
    ) -> Corpus:
        """Tokenize documents word by word.

        Args:
            documents: texts; a line end also ends a sentence.
            tokenize: a word to its token ids. Every word is asked for once.
            segment: a sentence to its words, for example `jieba.lcut`. If `None`,
                the text is already segmented by spaces.

        Returns:
            A `Corpus`.

        Example:

        >>> corpus = Corpus.from_documents(["今天 天气 好 。 走 吧 。"], lambda w: [7])
        >>> corpus.sentence_starts
        array([0, 4, 7])
        """
        known: dict[str, Sequence[int]] = {}
        token_ids: list[int] = []
        word_starts: list[bool] = []
        sentences, documents_at = [0], [0]
        for document in documents:
            for line in document.split("\n"):
                for sentence in _SENTENCE_END.split(line):
                    words = sentence.split() if segment is None else segment(sentence)
                    for word in words:
                        ids = known.get(word)
                        if ids is None:
                            ids = known[word] = list(tokenize(word))
                        if ids:
                            token_ids.extend(ids)
                            word_starts.append(True)
                            word_starts.extend([False] * (len(ids) - 1))
                    if len(token_ids) > sentences[-1]:
                        sentences.append(len(token_ids))
            if len(sentences) - 1 > documents_at[-1]:
                documents_at.append(len(sentences) - 1)
        return cls(
            np.array(token_ids, "int32"),
            np.array(word_starts, "bool"),
            np.array(sentences, "int64"),
            np.array(documents_at, "int64"),
        )

    def __len__(self) -> int:
        return len(self.document_starts) - 1

    def split(self, held_out: float, seed: int = 0) -> tuple[Corpus, Corpus]:
        """Part the documents by a hash of their tokens, the same on every machine.

        Args:
            held_out: float, the share of documents to hold out.
            seed: int, another seed gives another split.

        Returns:
            The training corpus and the held-out corpus.
        """
        keep: list[int] = []
        out: list[int] = []
        for index in range(len(self)):
            first, last = self.document_starts[index : index + 2]
            span = slice(self.sentence_starts[first], self.sentence_starts[last])
            content = self.token_ids[span].astype("<i4").tobytes()
            digest = hashlib.sha256(seed.to_bytes(8, "little") + content).digest()
            part = int.from_bytes(digest[:8], "little") / 2**64 < held_out
            (out if part else keep).append(index)
        return self.select(keep), self.select(out)

    def select(self, documents: Sequence[int]) -> Corpus:
        """Return a corpus of the documents with these indices, in that order."""
        parts = [self._document(index) for index in documents]
        return Corpus.concatenate(parts or [self._document(None)])

    def _document(self, index: int | None) -> Corpus:
        if index is None:
            nothing = np.zeros(1, "int64")
            return Corpus(self.token_ids[:0], self.word_starts[:0], nothing, nothing)
        first, last = self.document_starts[index : index + 2]
        sentences = self.sentence_starts[first : last + 1]
        span = slice(sentences[0], sentences[-1])
        return Corpus(
            self.token_ids[span],
            self.word_starts[span],
            sentences - sentences[0],
            np.array([0, last - first], "int64"),
        )

    @classmethod
    def concatenate(cls, corpora: Sequence[Corpus]) -> Corpus:
        """Return one corpus of all documents, in the order given."""
        sentences, documents = [np.zeros(1, "int64")], [np.zeros(1, "int64")]
        for corpus in corpora:
            sentences.append(corpus.sentence_starts[1:] + sentences[-1][-1])
            documents.append(corpus.document_starts[1:] + documents[-1][-1])
        return cls(
            np.concatenate([corpus.token_ids for corpus in corpora]),
            np.concatenate([corpus.word_starts for corpus in corpora]),
            np.concatenate(sentences),
            np.concatenate(documents),
        )

    def pack(
        self, length: int, fill: bool, rng: np.random.Generator | None = None
    ) -> PackedRows:
        """Cut the corpus into rows of at most `length` tokens, specials included.

        Rows never leave a document and begin at a sentence where they can. A sentence
        longer than a row is cut at a word.

        Args:
            length: int, tokens of a padded row.
            fill: bool. `False` ends each row at a sentence end, which leaves padding;
                `True` fills the row to the last word that fits.
            rng: `numpy.random.Generator` that shortens the first row of each document,
                so that the cuts fall elsewhere in each epoch. `None` for fixed cuts.

        Returns:
            `PackedRows` in the order of the text.

        Raises:
            ValueError: if `length` leaves no room for a token.
        """
        room = length - 2
        if room < 1:
            raise ValueError(f"A row needs at least 3 tokens, not {length}.")
        word_at = np.flatnonzero(self.word_starts)
        starts: list[int] = []
        stops: list[int] = []
        for index in range(len(self)):
            first, last = self.document_starts[index : index + 2]
            ends = self.sentence_starts[first + 1 : last + 1]
            at, end = int(self.sentence_starts[first]), int(ends[-1])
            limit = room if rng is None else int(rng.integers(room // 2, room + 1))
            while at < end:
                stop = min(at + max(limit, 1), end)
                if stop < end:
                    stop = self._last_break(at, stop, ends, word_at, fill)
                starts.append(at)
                stops.append(stop)
                at, limit = stop, room
        return PackedRows(np.array(starts, "int64"), np.array(stops, "int64"))

    @staticmethod
    def _last_break(
        at: int, stop: int, ends: np.ndarray, word_at: np.ndarray, fill: bool
    ) -> int:
        """Return the last sentence end, else word start, in `(at, stop]`, else stop."""
        if not fill:
            best = np.searchsorted(ends, stop, side="right") - 1
            if best >= 0 and ends[best] > at:
                return int(ends[best])
        best = np.searchsorted(word_at, stop, side="right") - 1
        return int(word_at[best]) if word_at[best] > at else stop

    def rows(
        self,
        packed: PackedRows,
        indices: np.ndarray,
        length: int,
        cls_token_id: int,
        sep_token_id: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gather rows as padded arrays.

        Args:
            packed: what `pack` returned for this `length`.
            indices: integers `(batch,)`, which rows.
            length: int, tokens of a padded row.
            cls_token_id: int, the token in front.
            sep_token_id: int, the token behind the text.

        Returns:
            int32 `token_ids` and `word_ids`, both `(batch, length)`; padding has
            token id 0, and padding and special tokens have word id -1.
        """
        starts, stops = packed.starts[indices], packed.stops[indices]
        at = starts[:, None] + np.arange(length - 2)
        inside = at < stops[:, None]
        at = np.minimum(at, len(self.token_ids) - 1)
        begins = self.word_starts[at]
        begins[:, 0] = True
        token_ids = np.zeros((len(indices), length), "int32")
        word_ids = np.full((len(indices), length), NO_WORD, "int32")
        token_ids[:, 0] = cls_token_id
        token_ids[:, 1:-1] = np.where(inside, self.token_ids[at], 0)
        word_ids[:, 1:-1] = np.where(inside, np.cumsum(begins, axis=1) - 1, NO_WORD)
        token_ids[np.arange(len(indices)), stops - starts + 1] = sep_token_id
        return token_ids, word_ids
