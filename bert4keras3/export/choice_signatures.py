"""Signatures of multiple choice."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bert4keras3.export.signatures import TEXT, Signatures, model_inputs

__all__ = ["ChoiceSignatures"]

CHOICES = tf.TensorSpec([None, None], "string", name="choices")


class ChoiceSignatures(Signatures):
    """`serving_default` takes `text` `(B,)` and `choices` `(B, C)`, "" for none.

    Parts of a choice are joined by `[SEP]`. Outputs: `choice`, the text of the best,
    and `number`, its place, `(B,)`; `probability`, `(B,)`; `probabilities` and
    `logits`, `(B, C)`.
    """

    special = ("sep_token",)

    def columns(self) -> list[tf.TensorSpec]:
        return [TEXT, CHOICES]

    def tokenized_columns(self) -> list[tf.TensorSpec]:
        return [
            tf.TensorSpec([None, None, None], spec.dtype, name=spec.name)
            for spec in super().tokenized_columns()
        ]

    def answer(self, text: Any, choices: Any = None) -> dict[str, Any]:
        assert self.tokenizer is not None
        shape = tf.shape(choices)
        flat = tf.reshape(choices, [-1])
        encoded = self.tokenizer.encode(
            tf.repeat(text, shape[1]),
            flat,
            self.max_length,
            truncate_from=self.model.preprocessor.truncate_from,
        )
        there = tf.cast(flat != "", "int32")[:, None]
        inputs = {
            name: tf.reshape(array * there, [shape[0], shape[1], tf.shape(array)[1]])
            for name, array in model_inputs(encoded).items()
        }
        logits = self.outputs(inputs)["logits"]
        probabilities = tf.nn.softmax(logits)
        best = tf.argmax(logits, axis=-1, output_type="int32")
        return {
            "choice": tf.gather(choices, best, batch_dims=1),
            "number": best,
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
            "logits": logits,
        }
