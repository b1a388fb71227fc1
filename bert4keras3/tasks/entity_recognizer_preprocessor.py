"""From texts and entities to the indices of spans of tokens."""

import keras
import numpy as np

from bert4keras3.tasks.entity_tags import check_span
from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.tasks.token_offsets import encode_with_offsets, token_span


@keras.saving.register_keras_serializable(package="bert4keras3")
class EntityRecognizerPreprocessor(TextPreprocessor):
    """Encodes texts, and entities as indices `start * T + end` of token spans.

    Args:
        tokenizer, sequence_length: see `TextPreprocessor`.
        max_entities: how many entities of one type a text may have; the arrays of
            labels are so wide at every batch.

    Call arguments:
        texts: list of strings.
        pairs: must be `None`.
        labels: `(number of types, entities)`, where `entities` has for each text a
            list of `(start, end, type)`: half-open characters, and an integer. `None`
            for no labels.
        inputs_only: give the inputs without labels.

    Returns:
        `inputs` with `token_mask` `(B, T)`, 1 for tokens of the text; or
        `(inputs, labels)` with int32 labels `(B, types, max_entities)`, filled up
        with -1. Entities beyond `sequence_length` are left out.

    Raises:
        ValueError: pairs, a span outside its text, or too many entities.
    """

    def __init__(self, tokenizer, sequence_length=None, max_entities=32):
        super().__init__(tokenizer, sequence_length)
        self.max_entities = max_entities

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        inputs, offsets = encode_with_offsets(self, texts, pairs)
        if inputs_only or labels is None:
            return inputs
        length = inputs["token_ids"].shape[1]
        return inputs, np.stack(
            [
                self.indices(text, spans, length, *each)
                for text, spans, each in zip(texts, offsets, labels, strict=True)
            ]
        )

    def indices(self, text, offsets, length, num_types, entities):
        """int32 `(types, max_entities)` of one text."""
        found = [[] for _ in range(num_types)]
        for start, end, kind in entities:
            check_span(start, end, len(text), text)
            span = token_span(offsets, start, end)
            index = None if span is None else span[0] * length + span[1]
            if index is not None and index not in found[kind]:
                found[kind].append(index)
        return fill_up(found, self.max_entities, "max_entities")

    def get_config(self):
        return {**super().get_config(), "max_entities": self.max_entities}


def fill_up(rows, width, name):
    """Lists of indices as an int32 array with -1 behind them.

    Raises:
        ValueError: a list longer than `width`.
    """
    longest = max(map(len, rows), default=0)
    if longest > width:
        raise ValueError(
            f"A text has {longest} labels of one kind, but {name}={width}. Build the "
            f"preprocessor with a larger {name}."
        )
    filled = np.full((len(rows), width), -1, "int32")
    for row, indices in enumerate(rows):
        filled[row, : len(indices)] = indices
    return filled
