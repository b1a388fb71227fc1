"""The tokenizer as TensorFlow operations, for `tf.data` and for served models."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert4keras3.text import pre_tokenization
from bert4keras3.text.graph_characters import GraphCharacters
from bert4keras3.text.graph_packing import lay_out
from bert4keras3.text.graph_pieces import GraphPieces
from bert4keras3.text.graph_rows import behind_first, places_in_rows
from bert4keras3.text.graph_tables import (
    BLANK,
    KIND_BITS,
    STANDALONE,
    character_table,
)
from bert4keras3.text.graph_words import GraphWords
from bert4keras3.text.jieba_words import Jieba
from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.text.unicode_tables import NUM_CODE_POINTS


class Tokens(NamedTuple):
    """Tokens of a batch, one after the other.

    Attributes:
        ids: int32 `(tokens,)`.
        rows: int32 `(tokens,)`, the row of each.
        starts, ends: int32 `(tokens,)`, half-open character spans of the row's text.
    """

    ids: Any
    rows: Any
    starts: Any
    ends: Any


class GraphTokenizer(tf.Module):
    """Does what a `Tokenizer` does, inside a TensorFlow graph.

    It is made of core operations only, so an exported model needs nothing but
    TensorFlow's own runtime; its tables are variables, which an export stores once.
    Ids, truncation, padding and offsets are those of the `Tokenizer`. Bytes that are
    not UTF-8 count as U+FFFD, which vanishes, where the `Tokenizer` raises.

    With `pre_tokenize="jieba"` the words are those of jieba's dictionary as it is when
    this is built.

    Args:
        tokenizer: a `Tokenizer`, without `pre_tokenize` or with jieba's.
        allow_special: tokens of the vocabulary, such as `["[MASK]"]`, that are
            recognised in the texts.

    Call arguments:
        texts: string tensor `(B,)`.
        pairs: second texts, `(B,)`, or `None`.
        max_length: int, the greatest number of tokens of a row, special ones included.
        length: the width of the arrays: an int, or several (buckets) of which the
            smallest that fits is taken. By default that of the longest row.

    Returns:
        A dict of `token_ids` and `segment_ids`, int32, and `padding_mask`, bool, each
        `(B, T)`.

    Raises:
        ValueError: the tokenizer cuts words by another function, translates tokens that
            it does not know, or lacks `[CLS]`, `[SEP]`, `[PAD]` or `[UNK]`; or
            `max_length` has no room for them.

    Example:

    >>> from bert4keras3.text.tokenizer import Tokenizer
    >>> special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    >>> tokenizer = Tokenizer([*special, "今", "天", "good", "##s"])
    >>> in_graph = GraphTokenizer(tokenizer)
    >>> in_graph(["今天", "Goods!"])["token_ids"].numpy().tolist()
    [[2, 5, 6, 3, 0], [2, 7, 8, 1, 3]]
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        allow_special: Sequence[str] = (),
        name: str = "tokenizer",
    ):
        super().__init__(name=name)
        self.allow_special = tuple(allow_special)
        for kind in ("unk", "pad", "cls", "sep"):
            if getattr(tokenizer, f"{kind}_token_id") is None:
                raise ValueError(
                    f"A tokenizer in the graph needs a `{kind}_token`. Received one "
                    "without."
                )
        self.pad_token_id = tokenizer.pad_token_id
        self.cls_token_id = tokenizer.cls_token_id
        self.sep_token_id = tokenizer.sep_token_id
        self.zero_segments = tokenizer.zero_segments
        ids = {token: number for number, token in enumerate(tokenizer.vocabulary)}
        self.pieces = GraphPieces(
            ids, tokenizer.unk_token_id, tokenizer.max_word_length
        )
        self.words = None
        if tokenizer.pre_tokenize is not None:
            jieba = pre_tokenization.get(tokenizer.pre_tokenize)
            if not isinstance(jieba, Jieba):
                raise ValueError(
                    "Words are cut in the graph as jieba cuts them, and by no other "
                    f"function. Received pre_tokenize={tokenizer.pre_tokenize!r}."
                )
            self.words = GraphWords(jieba, ids)
        self.characters = GraphCharacters(
            character_table(
                ids,
                tokenizer.unk_token_id,
                self.pieces.trie.symbols,
                tokenizer.lowercase,
                None if self.words is None else self.words.marks_of_code_points(),
                [self._id_of_special(token, ids) for token in self.allow_special],
            )
        )
        self.translated = _translation(tokenizer, ids)

    @staticmethod
    def _id_of_special(token, ids):
        if token not in ids:
            raise ValueError(
                f"{token!r} of `allow_special` is not a token of the vocabulary."
            )
        return ids[token]

    def __call__(
        self,
        texts: Any,
        pairs: Any = None,
        max_length: int | None = None,
        length: int | Sequence[int] | None = None,
        truncate_from: str = "right",
    ) -> dict[str, Any]:
        encoded = self.encode(texts, pairs, max_length, length, truncate_from)
        names = ("token_ids", "segment_ids", "padding_mask")
        return {name: encoded[name] for name in names}

    def encode(
        self,
        texts: Any,
        pairs: Any = None,
        max_length: int | None = None,
        length: int | Sequence[int] | None = None,
        truncate_from: str = "right",
    ) -> dict[str, Any]:
        """Give the arrays of a call, and where each token stands.

        Args:
            texts, pairs, max_length, length: as in a call.
            truncate_from: `"right"` drops the last tokens of a text, `"left"` the
                first.

        Returns:
            A dict of `token_ids`, `segment_ids`, `padding_mask`, and int32 `starts`
            and `ends`, the half-open character span of each token in its own text, -1
            for special tokens and padding; each `(B, T)`.
        """
        parts = [self.tokens(texts)]
        if pairs is not None:
            parts.append(self.tokens(pairs))
        layout = lay_out(
            [part.rows for part in parts],
            tf.size(texts),
            max_length,
            length,
            truncate_from,
        )
        special = layout.special(
            self.cls_token_id, self.sep_token_id, self.pad_token_id
        )
        at = tf.range(layout.width)[None]
        padding_mask = at < tf.add_n(layout.lengths)[:, None]
        segment_ids = tf.zeros_like(special)
        if pairs is not None and not self.zero_segments:
            second = (at >= layout.lengths[0][:, None]) & padding_mask
            segment_ids = tf.cast(second, "int32")
        nowhere = tf.fill(tf.shape(special), -1)
        return {
            "token_ids": layout.table([part.ids for part in parts], special),
            "segment_ids": segment_ids,
            "padding_mask": padding_mask,
            "starts": layout.table([part.starts for part in parts], nowhere),
            "ends": layout.table([part.ends for part in parts], nowhere),
        }

    def tokens(self, texts: Any) -> Tokens:
        """Cut texts into tokens, without special ones.

        Args:
            texts: string tensor `(B,)`.
        """
        texts = tf.convert_to_tensor(texts, "string")
        splits, codes = tf.raw_ops.UnicodeDecode(
            input=texts,
            input_encoding="UTF-8",
            errors="replace",
            replacement_char=0xFFFD,
        )
        splits = tf.cast(splits, "int32")
        given = splits
        firsts = lasts = None
        if self.allow_special:
            codes, splits, firsts, lasts = self._with_special(codes, splits)
        places, sources = self.characters(codes, splits)
        entries = tf.gather(self.characters.entries, places)
        kinds = entries & (1 << KIND_BITS) - 1
        values = tf.bitwise.right_shift(entries, KIND_BITS)
        # Blanks and the beginnings of rows part words.
        begins_row = tf.tensor_scatter_nd_add(
            tf.zeros([tf.size(codes) + 1], "int32"),
            splits[:-1, None],
            tf.ones_like(splits[:-1]),
        )
        rows = tf.gather(tf.cumsum(begins_row), sources)
        groups = rows + tf.cumsum(tf.cast(kinds == BLANK, "int32"))
        first = last = sources
        if self.words is not None:
            marks = tf.gather(self.characters.marks, places)
            begins, kinds, values, first, last = self.words(
                marks, rows, kinds, values, sources
            )
            groups += tf.cumsum(tf.cast(begins, "int32"))
        kept = tf.where(kinds <= STANDALONE)[:, 0]
        kinds, groups = tf.gather(kinds, kept), tf.gather(groups, kept)
        alone = kinds == STANDALONE
        begins = alone | _differs(groups) | tf.concat([alone[:1], alone[:-1]], 0)
        ids, at, sizes = self.pieces(kinds, tf.gather(values, kept), begins)
        if self.translated is not None:
            ids = tf.gather(self.translated, ids)
        first, last = _extent(tf.gather(first, kept), tf.gather(last, kept), at, sizes)
        row = tf.searchsorted(splits[1:], first, side="right")
        if firsts is not None:
            first, last = tf.gather(firsts, first), tf.gather(lasts, last)
        begin = tf.gather(given, row)
        return Tokens(ids, row, first - begin, last - begin + 1)

    def _length_of_special(self, number):
        return len(self.allow_special[number])

    def _with_special(self, codes, splits):
        """Put one code point of no text in the place of each special token.

        Returns the code points and splits, and the first and last character that each
        of them came from.
        """
        count = tf.size(codes)
        row = tf.searchsorted(splits[1:], tf.range(count), side="right")
        ends = tf.gather(splits, row + 1)
        at = tf.range(count)
        sizes = tf.ones_like(codes)
        given = codes
        # The longest last, for a token may be the beginning of another.
        order = sorted(range(len(self.allow_special)), key=self._length_of_special)
        for number in order:
            token = self.allow_special[number]
            length = len(token)
            padded = tf.pad(given, [[0, length]])
            same = at + length <= ends
            for place, char in enumerate(token):
                same &= padded[place : place + count] == ord(char)
            codes = tf.where(same, NUM_CODE_POINTS + number, codes)
            sizes = tf.where(same, length, sizes)
        # What follows the first character of a special token is part of it.
        kept = tf.cast(tf.where(~behind_first(sizes))[:, 0], "int32")
        splits = tf.searchsorted(kept, splits, side="left")
        lasts = kept + tf.gather(sizes, kept) - 1
        return tf.gather(codes, kept), splits, kept, lasts


def _translation(tokenizer, ids):
    """A variable with the id that each becomes, or None where none changes."""
    if not tokenizer.token_translate:
        return None
    if unseen := set(tokenizer.token_translate) - set(ids):
        raise ValueError(
            "In the graph, tokens to translate must be in the vocabulary. "
            f"`token_translate` has {sorted(unseen)}."
        )
    translated = np.arange(tokenizer.vocabulary_size, dtype=np.int32)
    for token, other in tokenizer.token_translate.items():
        if other:
            translated[ids[token]] = ids.get(other, tokenizer.unk_token_id)
    return tf.Variable(translated, trainable=False, name="translated")


def _differs(values):
    """Whether each value is another than the one before it; the first always."""
    changes = values[1:] != values[:-1]
    return tf.concat([tf.ones_like(values[:1], "bool"), changes], 0)


def _extent(firsts, lasts, at, sizes):
    """The first and the last character that each token came from."""
    # Sorting marks may have moved characters within a token.
    owners = tf.repeat(tf.range(tf.size(at)), sizes)
    covered = tf.gather(at, owners) + places_in_rows(owners, sizes)
    return (
        tf.math.segment_min(tf.gather(firsts, covered), owners),
        tf.math.segment_max(tf.gather(lasts, covered), owners),
    )
