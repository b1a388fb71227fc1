"""From texts and tags of their characters to tags of their tokens."""

import keras
import numpy as np

from bert4keras3.tasks.text_preprocessor import TextPreprocessor


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
        mask = np.zeros(inputs["token_ids"].shape, "int32")
        tags = np.full(mask.shape, -1, "int32")
        for row, spans in enumerate(offsets):
            if labels is not None and len(labels[row]) != len(texts[row]):
                raise ValueError(
                    f"A text has {len(texts[row])} characters but {len(labels[row])} "
                    f"tags: {texts[row][:40]!r}. Give one tag for each character, "
                    "spaces included."
                )
            for place, span in enumerate(spans):
                if span is not None:
                    mask[row, place] = 1
                    if labels is not None:
                        tags[row, place] = labels[row][span[0]]
        inputs["token_mask"] = mask
        return inputs if inputs_only or labels is None else (inputs, tags)


def encode_with_offsets(preprocessor, texts, pairs=None):
    """Arrays of single texts, and the character span of each token.

    Args:
        preprocessor: a `TextPreprocessor`.
        texts: list of strings.
        pairs: must be `None`.

    Returns:
        `(inputs, offsets)`: for each text a list of half-open spans, one per token,
        `None` for special tokens.

    Raises:
        ValueError: pairs of texts.
    """
    if pairs is not None:
        raise ValueError("This task reads single texts. Received pairs.")
    tokenizer = preprocessor.tokenizer
    inputs = tokenizer(texts, length=preprocessor.sequence_length)
    length = inputs["token_ids"].shape[1]
    return inputs, [
        [
            span if span is not None and span[1] > span[0] else None
            for span in tokenizer.encode(text, max_length=max(length, 2)).offsets
        ]
        for text in texts
    ]
