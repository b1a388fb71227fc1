"""Signatures of token classifiers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bert4keras3.export.signatures import (
    Signatures,
    in_rows,
    names_of_classes,
    pieces_of,
    token_inputs,
)
from bert4keras3.text.graph_rows import counts_in_rows

__all__ = ["TagSignatures"]


class TagSignatures(Signatures):
    """`serving_default` gives the tag of each token, and entities by BIO tags.

    Outputs: `tags`, string `(B, T)`, with `starts` and `ends`, int32, of the tokens in
    characters; "" and -1 for special tokens and padding. With tags `B-...` and `I-...`
    also `entity_starts`, `entity_ends`, `entity_types` and `entity_texts`, `(B, E)`,
    and `counts`, `(B,)`: what `TokenClassifier.recognize` gives.
    """

    more_inputs = ("token_mask",)

    def answer(self, text: Any, pair: Any = None) -> dict[str, Any]:
        encoded = self.encode(text)
        mask = encoded["starts"] >= 0
        logits = self.outputs(token_inputs(encoded))["logits"]
        tags = self.model.decoder.decode(logits, tf.cast(mask, "int32"))
        names = tf.concat([names_of_classes(self.model), [""]], 0)
        tags = tf.where(mask & (tags >= 0), tags, self.model.num_classes)
        answers = {
            "tags": tf.gather(names, tags),
            "starts": encoded["starts"],
            "ends": encoded["ends"],
        }
        if any(str(name)[:2] == "B-" for name in self.model.label_names or ()):
            answers |= self._entities(text, tags, encoded)
        return answers

    def _entities(
        self, text: Any, tags: Any, encoded: dict[str, Any]
    ) -> dict[str, Any]:
        parts = [str(name).partition("-") for name in self.model.label_names]
        types = sorted({kind for part, _, kind in parts if part in ("B", "I")})
        # -1 for tags that are no part of an entity, and for what has no tag.
        kinds = [types.index(k) if p in ("B", "I") else -1 for p, _, k in parts]
        kind_of_tag = tf.constant([*kinds, -1], "int32")
        is_begin = tf.constant([*(part == "B" for part, _, _ in parts), False])

        places = tf.where(encoded["starts"] >= 0)
        rows = tf.cast(places[:, 0], "int32")
        tag = tf.gather_nd(tags, places)
        kind = tf.gather(kind_of_tag, tag)
        starts = tf.gather_nd(encoded["starts"], places)
        ends = tf.gather_nd(encoded["ends"], places)

        def differs(values: Any, others: Any) -> Any:
            return tf.concat([[True], values[1:] != others[:-1]], 0)[: tf.size(values)]

        begins = tf.gather(is_begin, tag) | differs(kind, kind) | differs(rows, rows)
        # A character that belongs to no token parts entities.
        begins |= differs(starts, ends)
        begins &= kind >= 0
        number = tf.cumsum(tf.cast(begins, "int32")) - 1
        inside = kind >= 0
        owner = tf.boolean_mask(number, inside)
        last = tf.math.segment_max(tf.boolean_mask(ends, inside), owner)
        rows, kind = tf.boolean_mask(rows, begins), tf.boolean_mask(kind, begins)
        first = tf.boolean_mask(starts, begins)
        count = tf.size(text)
        return {
            "entity_starts": in_rows(first, rows, count, -1),
            "entity_ends": in_rows(last, rows, count, -1),
            "entity_types": in_rows(
                tf.gather(tf.constant(types), kind), rows, count, ""
            ),
            "entity_texts": in_rows(
                pieces_of(text, rows, first, last), rows, count, ""
            ),
            "counts": counts_in_rows(rows, count),
        }
