"""A trie that a TensorFlow graph walks, from many places of a text at once."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class GraphTrie(tf.Module):
    """Pieces of text by their beginnings, as one sorted array of edges.

    Nodes are numbered by level, and in a level by parent and symbol; the first are the
    roots. Edge `n` of the sorted array then leads to node `num_roots + n`, so where an
    edge is found says where it goes.

    Args:
        pieces: texts, not empty; those below one root are different.
        roots: the root of each piece, from 0.
        num_roots: how many roots there are.
        name: string.

    Attributes:
        symbols: dict from code points to numbers from 1; 0 stands for all others.

    Example:

    >>> trie = GraphTrie(["今", "今天"], [0, 0], 1)
    >>> exists, nodes = trie.step([0], [trie.symbols[ord("今")]])
    >>> bool(exists[0]), trie.at_nodes(np.array([7, 8]))[nodes[0]].item()
    (True, 7)
    """

    def __init__(
        self,
        pieces: Sequence[str],
        roots: Sequence[int],
        num_roots: int,
        name: str = "trie",
    ):
        super().__init__(name=name)
        self.symbols = symbols_of(pieces)
        self.width = len(self.symbols) + 1
        self.num_roots = num_roots
        keys, self._ends = _edges(pieces, roots, num_roots, self.symbols)
        self._size = num_roots + len(keys)
        # The last one is beyond every edge, so that a search always ends at a key.
        keys = np.append(keys, np.iinfo(np.int64).max)
        self.keys = tf.Variable(keys, trainable=False, name="keys")

    def at_nodes(self, values: np.ndarray, default: int = -1) -> np.ndarray:
        """Lay values of the pieces out by node, `default` where no piece ends."""
        # One more, for the node behind the key beyond.
        laid = np.full(self._size + 1, default, values.dtype)
        laid[self._ends] = values
        return laid

    def step(self, nodes: Any, symbols: Any) -> tuple[Any, Any]:
        """Go on by a symbol each.

        Args:
            nodes, symbols: int32 `(P,)`.

        Returns:
            Whether there is an edge, bool `(P,)`, and the nodes it leads to, int32.
        """
        wanted = tf.cast(nodes, "int64") * self.width + tf.cast(symbols, "int64")
        keys = tf.convert_to_tensor(self.keys)
        place = tf.raw_ops.LowerBound(sorted_inputs=keys[None], values=wanted[None])[0]
        return tf.gather(keys, place) == wanted, place + self.num_roots


def symbols_of(pieces: Iterable[str]) -> dict[int, int]:
    """Number the code points of pieces, from 1."""
    codes = sorted(set().union(*map(set, pieces)))
    return {ord(char): number for number, char in enumerate(codes, 1)}


def _edges(pieces, roots, num_roots, symbols):
    """The sorted edges, and the node in which each piece ends."""
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    lookup = np.zeros(max(symbols, default=0) + 1, np.int64)
    lookup[list(symbols)] = list(symbols.values())
    codes = np.frombuffer("".join(pieces).encode("utf-32-le"), np.uint32)
    flat, begins = lookup[codes], np.cumsum(lengths) - lengths
    nodes = np.array(roots, np.int64)
    width, made, keys = len(symbols) + 1, num_roots, []
    for level in range(lengths.max(initial=0)):
        going = np.flatnonzero(lengths > level)
        wanted = nodes[going] * width + flat[begins[going] + level]
        edges, place = np.unique(wanted, return_inverse=True)
        nodes[going] = made + place.reshape(-1)
        made += len(edges)
        keys.append(edges)
    return np.concatenate([*keys, np.zeros(0, np.int64)]), nodes
