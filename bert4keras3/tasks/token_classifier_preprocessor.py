"""From texts and tags of their characters to tags of their tokens."""

import keras
import numpy as np

from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.tasks.token_offsets import encode_with_offsets


@keras.saving.register_keras_serializable(package="bert4keras3")
class TokenClassifierPreprocessor(TextPreprocessor):
    """Encodes texts; a token has the tag of its first character.

    Args:
        tokenizer, sequence_length: see `TextPreprocessor`.

    Call arguments:
        texts: list of strings.
        pairs: must be `None`.
        labels: for each text a sequence of integers, one per character, or `None`.
        inputs_only: give the inputs without labels.

    Returns:
        `inputs` with `token_mask` `(B, T)` beside the usual arrays, 1 for the tokens
        that have a tag (all but `[CLS]`, `[SEP]` and padding); or `(inputs, labels)`
        with int32 labels `(B, T)`, -1 elsewhere.

    Raises:
        ValueError: pairs, or a text with more or fewer tags than characters.
    """

    def __init__(self, tokenizer, sequence_length=None):
        super().__init__(tokenizer, sequence_length)

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        inputs, offsets = encode_with_offsets(self, texts, pairs)
        if labels is None:
            return inputs
        tags = np.full(inputs["token_ids"].shape, -1, "int32")
        for row, spans in enumerate(offsets):
            if len(labels[row]) != len(texts[row]):
                raise ValueError(
                    f"A text has {len(texts[row])} characters but {len(labels[row])} "
                    f"tags: {texts[row][:40]!r}. Give one tag for each character, "
                    "spaces included."
                )
            for place, span in enumerate(spans):
                if span is not None:
                    tags[row, place] = labels[row][span[0]]
        return inputs if inputs_only else (inputs, tags)
