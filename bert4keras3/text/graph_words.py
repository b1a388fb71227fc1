"""jieba's cut by dictionary, in a TensorFlow graph."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bert4keras3.text.graph_rows import behind_first
from bert4keras3.text.graph_tables import DROPPED, STANDALONE
from bert4keras3.text.graph_trie import GraphTrie
from bert4keras3.text.jieba_words import ALPHANUMERIC, Jieba, is_in_block
from bert4keras3.text.unicode_tables import NUM_CODE_POINTS

IN_BLOCK, IS_LETTER, MARK_BITS = 1, 2, 2


class GraphWords(tf.Module):
    """Finds the most probable words of many texts at once, as `Jieba` does.

    Of all ways to cut a block of ideographs, letters and digits, the one with the
    greatest sum of logarithms of frequencies is taken, by dynamic programming from the
    right in float64, the longer word if two are equal. The blocks of a batch go
    together, so a batch takes as many steps as its longest block has characters.

    Args:
        jieba: a `Jieba`; its dictionary as it is now is taken.
        ids: token ids; a word of the dictionary that is a token stays whole.

    Call arguments:
        marks: int32 `(N,)`, of normalized characters; see `CharacterTable`.
        rows: int32 `(N,)`, another number in each row.
        kinds, values: int32 `(N,)`, what each character is.
        sources: int32 `(N,)`, the character each one came from.

    Returns:
        Whether a word begins, bool `(N,)`; `kinds` and `values` in which a word that is
        a token is one `STANDALONE` character with nothing behind it; and the first and
        the last source of each character, int32 `(N,)`.
    """

    def __init__(self, jieba: Jieba, ids: Mapping[str, int], name: str = "words"):
        super().__init__(name=name)
        frequencies, total = jieba.frequencies()
        words = [word for word, count in frequencies.items() if word and count]
        counts = np.array([frequencies[word] for word in words], np.int64)
        self.trie = GraphTrie(words, [0] * len(words), 1)
        # As Python computes them, to the last bit: equal sums decide between words.
        distinct, which = np.unique(counts, return_inverse=True)
        log_total = math.log(total)
        scores = [math.log(count) - log_total for count in distinct.tolist()]
        self.none = math.log(1) - log_total
        tokens = [ids.get(word, -1) if len(word) > 1 else -1 for word in words]

        def variable(name, array):
            return tf.Variable(array, trainable=False, name=name)

        self.scores = variable("scores", np.array([*scores, -math.inf]))
        at_nodes = self.trie.at_nodes(which.astype(np.int32), len(scores))
        self.score_of_node = variable("score_of_node", at_nodes)
        at_nodes = self.trie.at_nodes(np.array(tokens, np.int32))
        self.token_of_node = variable("token_of_node", at_nodes)

    def marks_of_code_points(self) -> np.ndarray:
        """Return `symbol << 2 | is_letter << 1 | in_block`, int32 `(0x110000,)`."""
        marks = np.zeros(NUM_CODE_POINTS, np.int32)
        for code, symbol in self.trie.symbols.items():
            marks[code] = symbol << MARK_BITS
        for code in range(0xFFFF):
            if is_in_block(chr(code)):
                marks[code] |= IN_BLOCK
        for char in ALPHANUMERIC:
            marks[ord(char)] |= IS_LETTER
        return marks

    def __call__(
        self, marks: Any, rows: Any, kinds: Any, values: Any, sources: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        inside = marks & IN_BLOCK > 0
        nowhere = tf.zeros_like(marks)
        begins, tokens, sizes = tf.cond(
            tf.reduce_any(inside),
            lambda: self._in_blocks(marks, rows, inside),
            lambda: (tf.ones_like(inside), nowhere - 1, nowhere + 1),
        )
        known = tokens >= 0
        kinds = tf.where(known, STANDALONE, kinds)
        values = tf.where(known, tokens, values)
        # What lies behind the first character of a token belongs to it.
        covered = behind_first(tf.where(known, sizes, 1))
        kinds = tf.where(covered, DROPPED, kinds)
        owners = tf.cumsum(tf.cast(~covered, "int32")) - 1
        firsts = tf.gather(tf.math.segment_min(sources, owners), owners)
        lasts = tf.gather(tf.math.segment_max(sources, owners), owners)
        return begins, kinds, values, firsts, lasts

    def _in_blocks(self, marks, rows, inside):
        """Of every character: does a word begin, which token is it, how long."""
        at = tf.cast(tf.where(inside)[:, 0], "int32")
        begins = tf.concat([[True], at[1:] != at[:-1] + 1], 0)
        row = tf.gather(rows, at)
        begins |= tf.concat([[True], row[1:] != row[:-1]], 0)
        starts = tf.cast(tf.where(begins)[:, 0], "int32")
        ends = tf.concat([starts[1:], [tf.size(at)]], 0)
        blocks = tf.cumsum(tf.cast(begins, "int32")) - 1
        limits = tf.gather(ends, blocks)
        mark = tf.gather(marks, at)
        scores, tokens = self._matches(mark, limits)
        sizes = self._best_sizes(scores, starts, ends, blocks)
        reached = self._reached(sizes, starts, ends)
        # Letters and digits that are left over one by one are joined.
        left_over = reached & (sizes == 1) & (mark & IS_LETTER > 0)
        joins = left_over & tf.concat([[False], left_over[:-1]], 0) & ~begins
        tokens = tf.gather(tokens, sizes - 1, batch_dims=1)
        tokens = tf.where(reached, tokens, -1)
        place = at[:, None]
        everywhere = tf.ones_like(marks)
        return (
            tf.tensor_scatter_nd_update(tf.ones_like(inside), place, reached & ~joins),
            tf.tensor_scatter_nd_update(-everywhere, place, tokens),
            tf.tensor_scatter_nd_update(everywhere, place, sizes),
        )

    def _matches(self, marks, limits):
        """Scores, float64 `(P, L)`, and tokens of the words from each place on."""
        symbols = tf.bitwise.right_shift(marks, MARK_BITS)
        count = tf.size(marks)

        def step(size, alive, nodes, scores, tokens):
            at = alive + size
            inside = at < tf.gather(limits, alive)
            symbol = tf.gather(symbols, tf.minimum(at, count - 1))
            exists, nodes = self.trie.step(nodes, tf.where(inside, symbol, 0))
            alive = tf.boolean_mask(alive, exists)
            nodes = tf.boolean_mask(nodes, exists)
            score = tf.gather(self.scores, tf.gather(self.score_of_node, nodes))
            column = tf.fill([count], tf.constant(-math.inf, "float64"))
            column = tf.tensor_scatter_nd_update(column, alive[:, None], score)
            token = tf.tensor_scatter_nd_update(
                tf.fill([count], -1),
                alive[:, None],
                tf.gather(self.token_of_node, nodes),
            )
            scores = tf.concat([scores, column[:, None]], 1)
            return (
                size + 1,
                alive,
                nodes,
                scores,
                tf.concat([tokens, token[:, None]], 1),
            )

        any_length = tf.TensorShape([None])
        *_, scores, tokens = tf.while_loop(
            lambda size, alive, *_: (tf.size(alive) > 0) | (size == 0),
            step,
            (
                0,
                tf.range(count),
                tf.zeros_like(marks),
                tf.zeros([count, 0], "float64"),
                tf.zeros([count, 0], "int32"),
            ),
            shape_invariants=(
                tf.TensorShape([]),
                any_length,
                any_length,
                tf.TensorShape([None, None]),
                tf.TensorShape([None, None]),
            ),
        )
        # A character that begins no word is one.
        none = tf.reduce_all(scores == -math.inf, axis=1)
        first = tf.where(none, tf.constant(self.none, "float64"), scores[:, 0])
        return tf.concat([first[:, None], scores[:, 1:]], 1), tokens

    def _best_sizes(self, scores, starts, ends, blocks):
        """The size of the best word from each place on, int32 `(P,)`."""
        longest = tf.reduce_max(ends - starts)
        width = tf.shape(scores)[1]

        def step(done, totals, chosen):
            at = tf.maximum(ends - 1 - done, 0)
            sums = tf.gather(scores, at) + totals
            # The last of equal ones, which is the longest word.
            size = width - tf.argmax(sums[:, ::-1], 1, output_type="int32")
            best = tf.reduce_max(sums, axis=1)
            totals = tf.concat([best[:, None], totals[:, :-1]], 1)
            return done + 1, totals, chosen.write(done, size)

        _, _, chosen = tf.while_loop(
            lambda done, *_: done < longest,
            step,
            (
                0,
                tf.zeros([tf.size(starts), width], "float64"),
                tf.TensorArray("int32", longest, element_shape=[None]),
            ),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, None]),
                None,
            ),
        )
        steps = tf.gather(ends, blocks) - 1 - tf.range(tf.size(blocks))
        return tf.gather_nd(chosen.stack(), tf.stack([steps, blocks], 1))

    def _reached(self, sizes, starts, ends):
        """Where words begin, going from word to word, bool `(P,)`."""

        def step(at, ends, reached):
            reached = tf.tensor_scatter_nd_update(
                reached, at[:, None], tf.ones_like(at, "bool")
            )
            at += tf.gather(sizes, at)
            going = at < ends
            return tf.boolean_mask(at, going), tf.boolean_mask(ends, going), reached

        any_length = tf.TensorShape([None])
        *_, reached = tf.while_loop(
            lambda at, *_: tf.size(at) > 0,
            step,
            (starts, ends, tf.zeros_like(sizes, "bool")),
            shape_invariants=(any_length,) * 3,
        )
        return reached
