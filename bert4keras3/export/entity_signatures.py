"""Signatures of entity recognizers."""

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

__all__ = ["EntitySignatures", "spans_above"]


class EntitySignatures(Signatures):
    """`serving_default` gives the entities that `EntityRecognizer.recognize` gives.

    Outputs, `(B, E)` with as many columns as the text with the most entities: `starts`
    and `ends`, int32, half-open in characters, -1 where there is none; `types` and
    `texts`, strings; `scores`, logits. `counts`, int32 `(B,)`, says how many there are.
    """

    more_inputs = ("token_mask",)

    def answer(self, text: Any, pair: Any = None) -> dict[str, Any]:
        encoded = self.encode(text)
        logits = self.outputs(token_inputs(encoded))["logits"]
        rows, kinds, firsts, lasts, scores = spans_above(logits, encoded)
        starts = tf.gather_nd(encoded["starts"], tf.stack([rows, firsts], 1))
        ends = tf.gather_nd(encoded["ends"], tf.stack([rows, lasts], 1))
        # In the order of the text; equal spans in that of their types.
        size = tf.reduce_max(tf.concat([[0], ends], 0)) + 1
        keys = tf.cast(rows, "int64") * tf.cast(size, "int64") + tf.cast(
            starts, "int64"
        )
        keys = keys * tf.cast(size, "int64") + tf.cast(ends, "int64")
        order = tf.argsort(keys, stable=True)
        rows, kinds, starts, ends, scores = (
            tf.gather(each, order) for each in (rows, kinds, starts, ends, scores)
        )
        count = tf.size(text)
        return {
            "starts": in_rows(starts, rows, count, -1),
            "ends": in_rows(ends, rows, count, -1),
            "types": in_rows(
                tf.gather(names_of_classes(self.model), kinds), rows, count, ""
            ),
            "texts": in_rows(pieces_of(text, rows, starts, ends), rows, count, ""),
            "scores": in_rows(scores, rows, count, 0.0),
            "counts": counts_in_rows(rows, count),
        }


def spans_above(logits: Any, encoded: dict[str, Any]) -> tuple[Any, ...]:
    """Spans whose logit is above 0: row, class, first and last token, and the logit.

    Args:
        logits: `(B, N, T * T)`.
        encoded: of `GraphTokenizer.encode`.
    """
    length = tf.shape(encoded["token_ids"])[1]
    places = tf.where(logits > 0)
    rows, kinds, spans = (
        tf.cast(each, "int32") for each in tf.unstack(places, 3, axis=1)
    )
    return rows, kinds, spans // length, spans % length, tf.gather_nd(logits, places)
