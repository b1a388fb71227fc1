"""The tokenizer as TensorFlow operations, for `tf.data` and for served models."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert4keras3.text import pre_tokenization
from bert4keras3.text.graph_characters import GraphCharacters
from bert4keras3.text.graph_pieces import GraphPieces
from bert4keras3.text.graph_tables import (
    BLANK,
    KIND_BITS,
    STANDALONE,
    character_table,
)
from bert4keras3.text.graph_words import GraphWords
from bert4keras3.text.inputs import as_buckets
from bert4keras3.text.jieba_words import Jieba
from bert4keras3.text.tokenizer import Tokenizer


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

    def __init__(self, tokenizer: Tokenizer, name: str = "tokenizer"):
        super().__init__(name=name)
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
            )
        )
        self.translated = _translation(tokenizer, ids)

    def __call__(
        self,
        texts: Any,
        pairs: Any = None,
        max_length: int | None = None,
        length: int | Sequence[int] | None = None,
    ) -> dict[str, Any]:
        parts = [self.tokens(texts)]
        if pairs is not None:
            parts.append(self.tokens(pairs))
        rows = tf.size(texts)
        columns, lengths, width = self._places(parts, rows, max_length, length)
        token_ids = self._laid_out(parts, columns, lengths, width)
        ends = tf.add_n(lengths)[:, None]
        at = tf.range(width)[None]
        padding_mask = at < ends
        segment_ids = tf.zeros_like(token_ids)
        if pairs is not None and not self.zero_segments:
            second = (at >= lengths[0][:, None]) & padding_mask
            segment_ids = tf.cast(second, "int32")
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": padding_mask,
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
        firsts = lasts = sources
        if self.words is not None:
            marks = tf.gather(self.characters.marks, places)
            begins, kinds, values, firsts, lasts = self.words(
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
        first, last = _extent(
            tf.gather(firsts, kept), tf.gather(lasts, kept), at, sizes
        )
        row = tf.searchsorted(splits[1:], first, side="right")
        begin = tf.gather(splits, row)
        return Tokens(ids, row, first - begin, last - begin + 1)

    # --- Rows ---------------------------------------------------------------------

    def _places(self, parts, rows, max_length, length):
        """The column of each token, -1 for those cut off; lengths; the width."""
        buckets = as_buckets(length)
        if buckets:
            max_length = min(max_length or buckets[-1], buckets[-1])
        special = 1 + len(parts)
        if max_length is not None and max_length < special:
            raise ValueError(
                f"max_length={max_length} has no room for {special} special tokens. "
                f"Use at least {special + len(parts)}."
            )
        counts = [
            tf.math.bincount(p.rows, minlength=rows, maxlength=rows) for p in parts
        ]
        counts = [tf.reshape(each, [rows]) for each in counts]
        within = [
            tf.range(tf.size(p.rows))
            - tf.gather(tf.cumsum(count, exclusive=True), p.rows)
            for p, count in zip(parts, counts, strict=True)
        ]
        # `[CLS]` counts for both texts while they are cut, as in bert4keras.
        full = [count + 2 for count in counts]
        if max_length is not None:
            full = _shortened(full, max_length + len(parts) - 1)
        lengths = [full[0], *(each - 1 for each in full[1:])]
        columns = []
        begin = tf.ones([rows], "int32")
        for p, place, count in zip(parts, within, full, strict=True):
            column = tf.gather(begin, p.rows) + place
            columns.append(tf.where(place < tf.gather(count, p.rows) - 2, column, -1))
            begin += count - 1
        longest = tf.reduce_max(tf.concat([[2], tf.add_n(lengths)], 0))
        if not buckets:
            return columns, lengths, longest
        at = tf.searchsorted(buckets, [longest], side="left")[0]
        return columns, lengths, tf.gather(buckets, at)

    def _laid_out(self, parts, columns, lengths, width):
        rows = tf.size(lengths[0])
        at = tf.range(width)[None]
        ends = tf.cumsum(tf.stack(lengths, 1), axis=1)  # of each text, [SEP] included
        table = tf.where(at == 0, self.cls_token_id, self.pad_token_id)
        table = tf.tile(table, [rows, 1])
        for number in range(len(parts)):
            last = ends[:, number, None] - 1
            table = tf.where(at == last, self.sep_token_id, table)
        for part, column in zip(parts, columns, strict=True):
            kept = tf.where(column >= 0)[:, 0]
            places = tf.stack([tf.gather(part.rows, kept), tf.gather(column, kept)], 1)
            table = tf.tensor_scatter_nd_update(
                table, places, tf.gather(part.ids, kept)
            )
        return table


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
    within = tf.range(tf.size(owners)) - tf.gather(
        tf.cumsum(sizes, exclusive=True), owners
    )
    covered = tf.gather(at, owners) + within
    return (
        tf.math.segment_min(tf.gather(firsts, covered), owners),
        tf.math.segment_max(tf.gather(lasts, covered), owners),
    )


def _shortened(lengths, most):
    """Lengths of one or two texts after tokens went, each from the longer one."""
    if len(lengths) == 1:
        return [tf.minimum(lengths[0], most)]
    first, second = lengths
    excess = first + second > most
    half = tf.fill(tf.shape(first), most // 2)
    low = tf.maximum(half, most - tf.minimum(first, second))
    a, b = tf.minimum(first, low), tf.minimum(second, low)
    # What room is left belongs to the second text.
    b += tf.where((a + b < most) & (second > low), 1, 0)
    return [tf.where(excess, a, first), tf.where(excess, b, second)]
