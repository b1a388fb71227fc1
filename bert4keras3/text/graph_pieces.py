"""Greedy longest-match wordpiece in a TensorFlow graph."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bert4keras3.text.graph_tables import WORD, kinds_of_code_points
from bert4keras3.text.graph_trie import GraphTrie

START, CONTINUATION = 0, 1  # roots of the trie


class GraphPieces(tf.Module):
    """Covers words by the longest pieces of the vocabulary, all words at once.

    Args:
        ids: token ids.
        unknown: the id of a word that cannot be covered.
        max_word_length: longer words are unknown without looking.

    Attributes:
        trie: the `GraphTrie` of the pieces, whose symbols are the values of letters.

    Call arguments:
        kinds: int32 `(K,)`, `WORD` or `STANDALONE`, of the characters of all texts.
        values: int32 `(K,)`, symbols of letters, token ids of standalone characters.
        begins: bool `(K,)`, whether a word begins.

    Returns:
        Of each token, int32: its id, the character where it begins, and how many it
        has.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        unknown: int,
        max_word_length: int,
        name: str = "pieces",
    ):
        super().__init__(name=name)
        self.unknown, self.max_word_length = unknown, max_word_length
        kinds = kinds_of_code_points()
        goes_on = {t[2:]: n for t, n in ids.items() if t[:2] == "##" and len(t) > 2}
        pieces: list[str] = []
        roots: list[int] = []
        numbers: list[int] = []
        for root, found in ((START, ids), (CONTINUATION, goes_on)):
            for piece, number in found.items():
                if piece and all(kinds[ord(char)] == WORD for char in piece):
                    pieces.append(piece)
                    roots.append(root)
                    numbers.append(number)
        self.trie = GraphTrie(pieces, roots, 2)
        at_nodes = self.trie.at_nodes(np.array(numbers, np.int32))
        self.ids = tf.Variable(at_nodes, trainable=False, name="ids")

    def __call__(self, kinds: Any, values: Any, begins: Any) -> tuple[Any, Any, Any]:
        return tf.cond(
            tf.reduce_any(kinds == WORD),
            lambda: self._cut(kinds, values, begins),
            # Every character is a token.
            lambda: (values, tf.range(tf.size(values)), tf.ones_like(values)),
        )

    def _cut(self, kinds, values, begins):
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
            tf.where(is_bad, self.unknown, tf.gather(ids, at)),
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
            exists, following = self.trie.step(states, symbols)
            alive = tf.boolean_mask(alive, exists)
            states = tf.boolean_mask(following, exists)
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
