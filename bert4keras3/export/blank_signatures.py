"""Signatures of masked language models."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bert4keras3.export.signatures import Signatures, in_rows, model_inputs
from bert4keras3.text.graph_rows import counts_in_rows

__all__ = ["BlankSignatures"]

TOP_K = 5


class BlankSignatures(Signatures):
    """`serving_default` gives the likeliest tokens for each `[MASK]` in a text.

    Outputs, with as many columns as the text with the most blanks: `tokens`, string
    `(B, P, 5)`, best first, and `probabilities`; "" and 0 where there is no blank.
    `counts`, int32 `(B,)`, says how many there are.
    """

    special = ("mask_token",)

    def answer(self, text: Any, pair: Any = None) -> dict[str, Any]:
        tokenizer = self.model.tokenizer
        encoded = self.encode(text)
        is_blank = encoded["token_ids"] == tokenizer.mask_token_id
        places = tf.cast(tf.where(is_blank), "int32")
        rows = places[:, 0]
        count = tf.size(text)
        positions = in_rows(places[:, 1], rows, count, 0)
        # One place at least, so that the projection is of something.
        positions = tf.pad(positions, [[0, 0], [0, 1]])
        inputs = {**model_inputs(encoded), "mask_positions": positions}
        probabilities = tf.nn.softmax(self.outputs(inputs)["logits"])
        best, ids = tf.math.top_k(probabilities[:, :-1], TOP_K)
        counts = counts_in_rows(rows, count)
        there = tf.sequence_mask(counts, tf.shape(ids)[1])[:, :, None]
        return {
            "tokens": tf.where(
                there, tf.gather(tf.constant(tokenizer.vocabulary), ids), ""
            ),
            "probabilities": tf.where(there, best, 0.0),
            "counts": counts,
        }
