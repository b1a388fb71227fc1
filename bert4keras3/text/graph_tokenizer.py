"""The tokenizer as TensorFlow operations, for `tf.data` and for served models."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert4keras3.text.graph_tables import (
    BLANK,
    KIND_BITS,
    PAGE_BITS,
    SLOW,
    STANDALONE,
    WORD,
    build_trie,
    character_table,
    kinds_of_code_points,
    symbols_of,
)
from bert4keras3.text.inputs import as_buckets
from bert4keras3.text.tokenizer import Tokenizer

START, CONTINUATION = 0, 1  # states of the trie


class Characters(NamedTuple):
    """Characters that are left of a batch, one after the other.

    Attributes:
        kinds: `WORD` or `STANDALONE`.
        values: token ids of standalone characters, symbols of others.
        begins: bool, whether a word begins here.
        sources: the index of the character it came from, in the whole batch.
    """

    kinds: Any
    values: Any
    begins: Any
    sources: Any


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

    Args:
        tokenizer: a `Tokenizer` without `pre_tokenize`.

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
        ValueError: the tokenizer cuts words first or lacks `[CLS]`, `[SEP]`, `[PAD]` or
            `[UNK]`, or `max_length` has no room for them.

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
        if tokenizer.pre_tokenize is not None:
            raise ValueError(
                "A tokenizer that cuts words first has no form in the graph yet. "
                f"Received pre_tokenize={tokenizer.pre_tokenize!r}."
            )
        for kind in ("unk", "pad", "cls", "sep"):
            if getattr(tokenizer, f"{kind}_token_id") is None:
                raise ValueError(
                    f"A tokenizer in the graph needs a `{kind}_token`. Received one "
                    "without."
                )
        self.unk_token_id = tokenizer.unk_token_id
        self.pad_token_id = tokenizer.pad_token_id
        self.cls_token_id = tokenizer.cls_token_id
        self.sep_token_id = tokenizer.sep_token_id
        self.zero_segments = tokenizer.zero_segments
        self.max_word_length = tokenizer.max_word_length
        self._build_tables(tokenizer)

    def _build_tables(self, tokenizer):
        ids = {token: number for number, token in enumerate(tokenizer.vocabulary)}
        if unseen := set(tokenizer.token_translate) - set(ids):
            raise ValueError(
                "In the graph, tokens to translate must be in the vocabulary. "
                f"`token_translate` has {sorted(unseen)}."
            )
        kinds = kinds_of_code_points()
        goes_on = {t[2:]: n for t, n in ids.items() if t[:2] == "##" and len(t) > 2}
        starts, continuations = (
            {
                token: number
                for token, number in pieces.items()
                if token and all(kinds[ord(char)] == WORD for char in token)
            }
            for pieces in (ids, goes_on)
        )
        symbols = symbols_of([*starts, *continuations])
        table = character_table(ids, self.unk_token_id, symbols, tokenizer.lowercase)
        trie = build_trie(starts, continuations, symbols)
        translated = np.arange(tokenizer.vocabulary_size, dtype=np.int32)
        for token, other in tokenizer.token_translate.items():
            if other:
                translated[ids[token]] = ids.get(other, self.unk_token_id)
        self.translates = bool(tokenizer.token_translate)
        self.sigma = table.sigma

        def variable(name, array):
            return tf.Variable(array, trainable=False, name=name)

        # A page is found by the code point's upper bits, as the place where it begins.
        self.pages = variable("pages", table.pages << PAGE_BITS)
        self.entries = variable("entries", table.entries)
        self.properties = variable("properties", table.properties)
        self.starts = variable("starts", table.starts)
        self.parts = variable("parts", np.append(table.parts, 0).astype(np.int32))
        self.orders = variable("orders", np.append(table.orders, 0).astype(np.int32))
        self.barriers = variable("barriers", table.barriers.astype(np.int32))
        self.sigmas = variable("sigmas", table.sigmas)
        self.bases = variable("bases", trie.bases)
        self.parents = variable("parents", trie.parents)
        self.ids = variable("ids", trie.ids)
        self.translated = variable("translated", translated)

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
        characters = self._characters(codes, splits)
        pieces = tf.cond(
            tf.reduce_any(characters.kinds == WORD),
            lambda: self._pieces(characters),
            # Every character is a token.
            lambda: (
                characters.values,
                tf.range(tf.size(characters.kinds)),
                tf.ones_like(characters.kinds),
            ),
        )
        ids, at, sizes = pieces
        if self.translates:
            ids = tf.gather(self.translated, ids)
        first, last = self._extent(characters.sources, at, sizes)
        rows = tf.searchsorted(splits[1:], first, side="right")
        begin = tf.gather(splits, rows)
        return Tokens(ids, rows, first - begin, last - begin + 1)

    # --- Characters ---------------------------------------------------------------

    def _characters(self, codes, splits):
        """Normalize, drop what vanishes, and find where words begin."""
        entries = tf.gather(self.entries, self._address(codes))
        entries, sources = tf.cond(
            tf.reduce_any(entries >= SLOW),
            lambda: self._normalized(codes, entries, splits),
            lambda: (entries, tf.range(tf.size(codes))),
        )
        kinds = entries & (1 << KIND_BITS) - 1
        # Blanks and the beginnings of rows part words.
        marks = tf.tensor_scatter_nd_add(
            tf.zeros([tf.size(codes) + 1], "int32"),
            splits[:-1, None],
            tf.ones_like(splits[:-1]),
        )
        groups = tf.cumsum(tf.cast(kinds == BLANK, "int32"))
        kept = tf.where(kinds <= STANDALONE)[:, 0]
        sources = tf.gather(sources, kept)
        groups = tf.gather(groups, kept) + tf.gather(tf.cumsum(marks), sources)
        kinds = tf.gather(kinds, kept)
        alone = kinds == STANDALONE
        begins = (
            alone
            | tf.concat([[True], alone[:-1]], 0)[: tf.size(kinds)]
            | tf.concat([[True], groups[1:] != groups[:-1]], 0)[: tf.size(kinds)]
        )
        values = tf.bitwise.right_shift(tf.gather(entries, kept), KIND_BITS)
        return Characters(kinds, values, begins, sources)

    def _address(self, codes):
        page = tf.gather(self.pages, tf.bitwise.right_shift(codes, PAGE_BITS))
        return page + tf.bitwise.bitwise_and(codes, (1 << PAGE_BITS) - 1)

    def _normalized(self, codes, entries, splits):
        """Put several characters, none, or others in the place of some."""
        entries = self._with_sigmas(codes, entries, splits)
        slow = entries >= SLOW
        rows = tf.where(slow, entries - SLOW, 0)
        begin = tf.gather(self.starts, rows)
        counts = tf.where(slow, tf.gather(self.starts, rows + 1) - begin, 1)
        sources = tf.repeat(tf.range(tf.size(codes)), counts)
        within = tf.range(tf.size(sources)) - tf.gather(
            tf.cumsum(counts, exclusive=True), sources
        )
        is_part = tf.gather(slow, sources)
        place = tf.where(is_part, tf.gather(begin, sources) + within, 0)
        parts = tf.where(
            is_part, tf.gather(self.parts, place), tf.gather(entries, sources)
        )
        orders = tf.where(is_part, tf.gather(self.orders, place), 0)
        barriers = tf.where(slow, tf.gather(self.barriers, rows), 0)
        return tf.cond(
            tf.reduce_any(orders > 0),
            lambda: self._in_canonical_order(parts, sources, orders, barriers, splits),
            lambda: (parts, sources),
        )

    def _in_canonical_order(self, parts, sources, orders, barriers, splits):
        """Sort marks by their combining class, between what is none."""
        ahead = tf.tensor_scatter_nd_add(
            tf.pad(barriers, [[0, 1]]), splits[:-1, None], tf.ones_like(splits[:-1])
        )
        blocks = tf.cumsum(tf.cast(orders == 0, "int32"))
        blocks += tf.gather(tf.cumsum(ahead), sources)
        keys = tf.cast(blocks, "int64") * 256 + tf.cast(orders, "int64")
        order = tf.argsort(keys, stable=True)
        return tf.gather(parts, order), tf.gather(sources, order)

    def _with_sigmas(self, codes, entries, splits):
        """Lower the capital sigmas, which look at the letters around them."""
        if self.sigma < 0:
            return entries
        capital = entries == SLOW + self.sigma
        return tf.cond(
            tf.reduce_any(capital),
            lambda: tf.where(capital, self._sigmas(codes, splits), entries),
            lambda: entries,
        )

    def _sigmas(self, codes, splits):
        properties = tf.cast(tf.gather(self.properties, self._address(codes)), "int32")
        count = tf.size(codes)
        seen = tf.where(properties < 2)[:, 0]  # those that are not looked through
        seen = tf.cast(seen, "int32")
        at = tf.range(count)
        row = tf.searchsorted(splits[1:], at, side="right")
        before = tf.searchsorted(seen, at, side="left") - 1
        after = tf.searchsorted(seen, at, side="right")

        def is_cased(which):
            inside = (which >= 0) & (which < tf.size(seen))
            place = tf.gather(tf.pad(seen, [[0, 1]]), tf.where(inside, which, 0))
            inside &= tf.gather(row, place) == row
            return inside & (tf.gather(properties, place) == 1)

        final = is_cased(before) & ~is_cased(after)
        return tf.where(final, self.sigmas[1], self.sigmas[0])

    # --- Pieces -------------------------------------------------------------------

    def _pieces(self, characters):
        """Cut words by the longest pieces; ids, places and sizes of the tokens."""
        kinds, values, begins, _ = characters
        count = tf.size(kinds)
        words = tf.cumsum(tf.cast(begins, "int32")) - 1
        first = tf.cast(tf.where(begins)[:, 0], "int32")
        ends = tf.concat([first[1:], [count]], 0)
        is_letter = kinds == WORD
        letters = tf.cast(tf.where(is_letter)[:, 0], "int32")
        limits = tf.gather(ends, tf.gather(words, letters))
        ids, sizes = self._longest_matches(
            values, letters, limits, tf.gather(begins, letters)
        )
        at = letters[:, None]
        ids = tf.tensor_scatter_nd_update(values, at, ids)
        sizes = tf.tensor_scatter_nd_update(tf.ones_like(values), at, sizes)

        word_sizes = ends - first
        has_letters = tf.gather(is_letter, first)
        found, bad = self._reached(sizes, first, ends, has_letters, word_sizes)
        is_bad = tf.gather(bad, words)
        chosen = tf.where(is_bad, begins, found)
        at = tf.cast(tf.where(chosen)[:, 0], "int32")
        is_bad = tf.gather(is_bad, at)
        whole = tf.gather(word_sizes, tf.gather(words, at))
        return (
            tf.where(is_bad, self.unk_token_id, tf.gather(ids, at)),
            at,
            tf.where(is_bad, whole, tf.gather(sizes, at)),
        )

    def _longest_matches(self, values, letters, limits, begins):
        """The longest piece from each letter on: its id, and its size or 0."""
        states = tf.where(begins, START, CONTINUATION)
        alive = tf.range(tf.size(letters))
        nothing = tf.zeros_like(letters)

        def step(size, alive, states, ids, sizes):
            at = tf.gather(letters, alive) + size
            inside = at < tf.gather(limits, alive)
            symbols = tf.gather(values, tf.where(inside, at, 0))
            symbols = tf.where(inside, symbols, 0)
            following = tf.gather(self.bases, states) + symbols
            steps = inside & (symbols > 0)
            steps &= tf.gather(self.parents, following) == states
            alive = tf.boolean_mask(alive, steps)
            states = tf.boolean_mask(following, steps)
            tokens = tf.gather(self.ids, states)
            ends = tokens >= 0
            place = tf.boolean_mask(alive, ends)[:, None]
            ids = tf.tensor_scatter_nd_update(ids, place, tf.boolean_mask(tokens, ends))
            longer = tf.fill([tf.shape(place)[0]], size + 1)
            sizes = tf.tensor_scatter_nd_update(sizes, place, longer)
            return size + 1, alive, states, ids, sizes

        any_length = tf.TensorShape([None])
        *_, ids, sizes = tf.while_loop(
            lambda size, alive, *_: tf.size(alive) > 0,
            step,
            (0, alive, states, nothing, nothing),
            shape_invariants=(tf.TensorShape([]), *[any_length] * 4),
        )
        return ids, sizes

    def _reached(self, sizes, first, ends, has_letters, word_sizes):
        """Where tokens begin, going from piece to piece, and which words fail."""
        too_long = has_letters & (word_sizes > self.max_word_length)
        found = tf.zeros_like(sizes, "bool")
        # A word of one standalone character is a token.
        found = tf.tensor_scatter_nd_update(found, first[:, None], ~has_letters)
        alive = tf.cast(tf.where(has_letters & ~too_long)[:, 0], "int32")

        def step(alive, at, found, bad):
            size = tf.gather(sizes, at)
            failed = size == 0
            bad = tf.tensor_scatter_nd_update(
                bad, alive[:, None], tf.gather(bad, alive) | failed
            )
            found = tf.tensor_scatter_nd_update(
                found, at[:, None], tf.ones_like(failed)
            )
            at += size
            going = ~failed & (at < tf.gather(ends, alive))
            return (
                tf.boolean_mask(alive, going),
                tf.boolean_mask(at, going),
                found,
                bad,
            )

        any_length = tf.TensorShape([None])
        *_, found, bad = tf.while_loop(
            lambda alive, *_: tf.size(alive) > 0,
            step,
            (alive, tf.gather(first, alive), found, too_long),
            shape_invariants=(any_length,) * 4,
        )
        return found, bad

    def _extent(self, sources, at, sizes):
        """The first and the last character that each token came from."""
        # Sorting marks may have moved characters within a token.
        count = tf.size(at)
        owners = tf.repeat(tf.range(count), sizes)
        within = tf.range(tf.size(owners)) - tf.gather(
            tf.cumsum(sizes, exclusive=True), owners
        )
        covered = tf.gather(sources, tf.gather(at, owners) + within)
        return (
            tf.math.segment_min(covered, owners),
            tf.math.segment_max(covered, owners),
        )

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
