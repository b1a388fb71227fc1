"""Signatures of text classifiers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bert4keras3.export.signatures import Signatures, model_inputs, names_of_classes

__all__ = ["ClassSignatures"]


class ClassSignatures(Signatures):
    """`serving_default` gives the likeliest class and the probabilities of all.

    Outputs: `label`, string `(B,)`; `probability`, `(B,)`; `probabilities` and
    `logits`, `(B, C)`; `labels`, string `(C,)`, the names in the order of the columns.
    """

    def answer(self, text: Any, pair: Any = None) -> dict[str, Any]:
        logits = self.outputs(model_inputs(self.encode(text, pair)))["logits"]
        names = names_of_classes(self.model)
        probabilities = tf.nn.softmax(logits)
        return {
            "label": tf.gather(names, tf.argmax(logits, axis=-1)),
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
            "logits": logits,
        }
