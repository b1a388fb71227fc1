"""Signatures of text embedders."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bert4keras3.export.signatures import Signatures, model_inputs

__all__ = ["VectorSignatures"]


class VectorSignatures(Signatures):
    """`serving_default` gives vectors of length 1, as `TextEmbedder.embed` does.

    Output: `embedding`, float32 `(B, D)`.
    """

    def answer(self, text: Any, pair: Any = None) -> dict[str, Any]:
        vectors = self.outputs(model_inputs(self.encode(text)))[self.output_name()]
        lengths = tf.norm(vectors, axis=-1, keepdims=True)
        return {"embedding": vectors / tf.maximum(lengths, 1e-12)}

    def output_name(self) -> str:
        return "embedding"
