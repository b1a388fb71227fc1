"""From texts, or pairs of like texts, to the inputs of a text embedder."""

import keras
import numpy as np

from bert4keras3.tasks.text_preprocessor import TextPreprocessor


@keras.saving.register_keras_serializable(package="bert4keras3")
class TextEmbedderPreprocessor(TextPreprocessor):
    """Encodes single texts; a pair becomes two rows, one after the other.

    Args:
        tokenizer, sequence_length: see `TextPreprocessor`.

    Call arguments:
        texts: list of strings.
        pairs: texts to compare them with, or `None`.
        labels: how alike each pair is, or `None`.
        inputs_only: give the inputs without labels.

    Returns:
        `inputs`, `(B, T)`, or for pairs `(inputs, labels)` with `(2 B, T)`: rows `2 k`
        and `2 k + 1` are pair `k`, both with its label, 1 without labels.
    """

    def __init__(self, tokenizer, sequence_length=None):
        super().__init__(tokenizer, sequence_length)

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        if pairs is None:
            return super().__call__(texts, None, labels, inputs_only)
        if len(pairs) != len(texts):
            raise ValueError(f"There are {len(texts)} texts but {len(pairs)} pairs.")
        rows = [text for pair in zip(texts, pairs, strict=True) for text in pair]
        inputs = self.tokenizer(rows, length=self.sequence_length)
        if inputs_only:
            return inputs
        labels = np.ones(len(texts)) if labels is None else np.asarray(labels)
        return inputs, np.repeat(labels.astype("float32"), 2)
