"""Signatures of relation extractors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bert4keras3.export.entity_signatures import spans_above
from bert4keras3.export.signatures import (
    Signatures,
    in_rows,
    names_of_classes,
    pieces_of,
    token_inputs,
)
from bert4keras3.text.graph_rows import counts_in_rows, places_in_rows

__all__ = ["RelationSignatures"]


class RelationSignatures(Signatures):
    """`serving_default` gives the relations that `RelationExtractor.extract` gives.

    Outputs, `(B, R)` with as many columns as the text with the most relations:
    `subjects`, `predicates` and `objects`, strings; `subject_starts`, `subject_ends`,
    `object_starts` and `object_ends`, int32, half-open in characters, -1 where there is
    none. `counts`, int32 `(B,)`, says how many there are.
    """

    more_inputs = ("token_mask",)

    def answer(self, text: Any, pair: Any = None) -> dict[str, Any]:
        encoded = self.encode(text)
        outputs = self.outputs(token_inputs(encoded))
        rows, subjects, kinds, objects = self._linked(outputs, encoded)

        def characters(spans: Any) -> tuple[Any, Any]:
            ends = [tf.stack([rows, each], 1) for each in spans]
            return (
                tf.gather_nd(encoded["starts"], ends[0]),
                tf.gather_nd(encoded["ends"], ends[1]),
            )

        found = {"subject": characters(subjects), "object": characters(objects)}
        count = tf.size(text)
        names = tf.gather(names_of_classes(self.model), kinds)
        answers = {
            "predicates": in_rows(names, rows, count, ""),
            "counts": counts_in_rows(rows, count),
        }
        for part, (starts, ends) in found.items():
            pieces = pieces_of(text, rows, starts, ends)
            answers[f"{part}s"] = in_rows(pieces, rows, count, "")
            answers[f"{part}_starts"] = in_rows(starts, rows, count, -1)
            answers[f"{part}_ends"] = in_rows(ends, rows, count, -1)
        return answers

    def _linked(
        self, outputs: dict[str, Any], encoded: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Rows, subjects, predicates and objects whose four parts are above 0."""
        rows, kinds, firsts, lasts, _ = spans_above(outputs["entities"], encoded)
        length = tf.shape(encoded["token_ids"])[1]

        def of_kind(kind: int) -> Any:
            chosen = tf.boolean_mask(
                tf.stack([rows, firsts, lasts], 1), tf.equal(kinds, kind)
            )
            # By row, first and last token, as the extractor sorts them.
            keys = (chosen[:, 0] * length + chosen[:, 1]) * length + chosen[:, 2]
            return tf.gather(chosen, tf.argsort(keys, stable=True))

        subjects, objects = of_kind(0), of_kind(1)
        # Every subject with every object of its row.
        begins = tf.searchsorted(objects[:, 0], subjects[:, 0], side="left")
        ends = tf.searchsorted(objects[:, 0], subjects[:, 0], side="right")
        counts = ends - begins
        which = tf.repeat(tf.range(tf.shape(subjects)[0]), counts)
        within = places_in_rows(which, counts)
        subject = tf.gather(subjects, which)
        object_ = tf.gather(objects, tf.gather(begins, which) + within)

        def scores(logits: Any, end: int) -> Any:
            spans = subject[:, end] * length + object_[:, end]
            by_span = tf.transpose(logits, [0, 2, 1])
            return tf.gather_nd(by_span, tf.stack([subject[:, 0], spans], 1))

        together = tf.minimum(scores(outputs["heads"], 1), scores(outputs["tails"], 2))
        places = tf.cast(tf.where(together > 0), "int32")
        pair, kind = places[:, 0], places[:, 1]
        # Triples are sorted by subject, predicate, and object.
        order = tf.argsort(
            tf.cast(tf.gather(which, pair), "int64") * self.model.num_classes
            + tf.cast(kind, "int64"),
            stable=True,
        )
        pair, kind = tf.gather(pair, order), tf.gather(kind, order)
        subject, object_ = tf.gather(subject, pair), tf.gather(object_, pair)
        return (
            subject[:, 0],
            (subject[:, 1], subject[:, 2]),
            kind,
            (object_[:, 1], object_[:, 2]),
        )
