"""From texts and entities to the indices of spans of tokens."""

import keras
import numpy as np

from bert4keras3.tasks.entity_tags import check_span
from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.tasks.token_classifier_preprocessor import encode_with_offsets


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
        mask = np.zeros(inputs["token_ids"].shape, "int32")
        for row, spans in enumerate(offsets):
            mask[row, : len(spans)] = [span is not None for span in spans]
        inputs["token_mask"] = mask
        if inputs_only or labels is None:
            return inputs
        return inputs, np.stack(
            [
                self.indices(text, spans, mask.shape[1], *each)
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


def token_span(offsets, start, end):
    """First and last token of the characters `start .. end - 1`, both inclusive.

    A span that begins or ends inside a token is widened to it.

    Returns:
        A pair of integers, or `None` if an end of it was cut off or is no token.
    """
    inside = [
        place
        for place, span in enumerate(offsets)
        if span is not None and span[0] < end and span[1] > start
    ]
    if not inside or offsets[inside[-1]][1] < end or offsets[inside[0]][0] > start:
        return None
    return inside[0], inside[-1]


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
