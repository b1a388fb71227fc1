"""Lower-casing, accent stripping and the kinds of characters, in a TensorFlow graph."""

from typing import Any

import tensorflow as tf

from bert4keras3.text.graph_rows import places_in_rows
from bert4keras3.text.graph_tables import PAGE_BITS, SLOW, CharacterTable


class GraphCharacters(tf.Module):
    """Normalizes code points as `normalize_text` does, many texts at once.

    Most characters become one other, which is a lookup. Only a batch that holds some
    that become several or none, or a capital sigma, goes a longer way.

    Args:
        table: a `CharacterTable`.

    Attributes:
        entries, marks: variables; see `CharacterTable`.

    Call arguments:
        codes: int32 `(N,)`, code points of all texts, one after the other.
        splits: int32 `(B + 1,)`, where each text begins, and the end.

    Returns:
        `places`, int32 `(M,)`, which are those of the normalized characters in
        `entries` and `marks`, and `sources`, int32 `(M,)`, the characters they came
        from.
    """

    def __init__(self, table: CharacterTable, name: str = "characters"):
        super().__init__(name=name)
        self.sigma = table.sigma
        for part in ("pages", "entries", "marks", "starts", "orders", "barriers"):
            setattr(self, part, self._variable(part, getattr(table, part)))
        self.sigmas = self._variable("sigmas", table.sigmas)
        self.properties = self._variable("properties", table.properties)

    @staticmethod
    def _variable(name, array):
        return tf.Variable(array, trainable=False, name=name)

    def __call__(self, codes: Any, splits: Any) -> tuple[Any, Any]:
        page = tf.gather(self.pages, tf.bitwise.right_shift(codes, PAGE_BITS))
        places = page + tf.bitwise.bitwise_and(codes, (1 << PAGE_BITS) - 1)
        entries = tf.gather(self.entries, places)
        return tf.cond(
            tf.reduce_any(entries >= SLOW),
            lambda: self._normalized(places, entries, splits),
            lambda: (places, tf.range(tf.size(codes))),
        )

    def _normalized(self, places, entries, splits):
        """Put several characters, none, or others in the place of some."""
        if self.sigma >= 0:
            capital = entries == self.sigma
            places, entries = tf.cond(
                tf.reduce_any(capital),
                lambda: self._with_sigmas(places, entries, capital, splits),
                lambda: (places, entries),
            )
        slow = entries >= SLOW
        rows = tf.where(slow, entries - SLOW, 0)
        begins = tf.gather(self.starts, rows)
        counts = tf.where(slow, tf.gather(self.starts, rows + 1) - begins, 1)
        sources = tf.repeat(tf.range(tf.size(places)), counts)
        within = places_in_rows(sources, counts)
        begins = tf.where(slow, begins, places)
        parts = tf.gather(begins, sources) + within
        orders = tf.gather(self.orders, parts)
        barriers = tf.where(slow, tf.gather(self.barriers, rows), 0)
        return tf.cond(
            tf.reduce_any(orders > 0),
            lambda: self._in_canonical_order(parts, sources, orders, barriers, splits),
            lambda: (parts, sources),
        )

    def _in_canonical_order(self, parts, sources, orders, barriers, splits):
        """Sort marks by their combining class, between characters that are none."""
        ahead = tf.tensor_scatter_nd_add(
            tf.pad(barriers, [[0, 1]]), splits[:-1, None], tf.ones_like(splits[:-1])
        )
        blocks = tf.cumsum(tf.cast(orders == 0, "int32"))
        blocks += tf.gather(tf.cumsum(ahead), sources)
        keys = tf.cast(blocks, "int64") * 256 + tf.cast(orders, "int64")
        order = tf.argsort(keys, stable=True)
        return tf.gather(parts, order), tf.gather(sources, order)

    def _with_sigmas(self, places, entries, capital, splits):
        """Lower the capital sigmas, which look at the letters around them."""
        properties = tf.cast(tf.gather(self.properties, places), "int32")
        seen = tf.cast(tf.where(properties < 2)[:, 0], "int32")  # not looked through
        at = tf.range(tf.size(places))
        row = tf.searchsorted(splits[1:], at, side="right")

        def is_cased(which):
            inside = (which >= 0) & (which < tf.size(seen))
            place = tf.gather(tf.pad(seen, [[0, 1]]), tf.where(inside, which, 0))
            inside &= tf.gather(row, place) == row
            return inside & (tf.gather(properties, place) == 1)

        before = is_cased(tf.searchsorted(seen, at, side="left") - 1)
        after = is_cased(tf.searchsorted(seen, at, side="right"))
        sigmas = tf.where(before & ~after, self.sigmas[1], self.sigmas[0])
        places = tf.where(capital, sigmas, places)
        return places, tf.gather(self.entries, places)
