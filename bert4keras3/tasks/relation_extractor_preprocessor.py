"""From texts and relations to the indices of three kinds of token pairs."""

import keras
import numpy as np

from bert4keras3.tasks.entity_recognizer_preprocessor import fill_up
from bert4keras3.tasks.entity_tags import check_span
from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.tasks.token_offsets import encode_with_offsets, token_span


@keras.saving.register_keras_serializable(package="bert4keras3")
class RelationExtractorPreprocessor(TextPreprocessor):
    """Encodes texts, and relations as GPLinker sees them.

    Args:
        tokenizer, sequence_length: see `TextPreprocessor`.
        max_relations: how many relations of one kind a text may have.

    Call arguments:
        texts: list of strings.
        pairs: must be `None`.
        labels: `(number of predicates, relations)` for each text, where `relations` is
            a list of `((start, end), predicate, (start, end))`, subject first, with
            half-open characters and an integer. `None` for no labels.
        inputs_only: give the inputs without labels.

    Returns:
        `inputs` with `token_mask` `(B, T)`; or `(inputs, labels)`, a dict of int32
        indices: `entities` `(B, 2, 2 * max_relations)` of spans of subjects and of
        objects, `heads` and `tails` `(B, predicates, max_relations)` of pairs (first
        token of the subject, first of the object) and (last, last). A pair `(i, j)` is
        `i * T + j`, and -1 fills up.

    Raises:
        ValueError: pairs, a span outside its text, or too many relations.
    """

    def __init__(self, tokenizer, sequence_length=None, max_relations=32):
        super().__init__(tokenizer, sequence_length)
        self.max_relations = max_relations

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        inputs, offsets = encode_with_offsets(self, texts, pairs)
        if inputs_only or labels is None:
            return inputs
        length = inputs["token_ids"].shape[1]
        found = [
            self.indices(text, spans, length, *each)
            for text, spans, each in zip(texts, offsets, labels, strict=True)
        ]
        return inputs, {
            name: np.stack([each[name] for each in found]) for name in found[0]
        }

    def indices(self, text, offsets, length, num_predicates, relations):
        """Dict of int32 arrays of one text."""
        entities = [set(), set()]
        heads = [set() for _ in range(num_predicates)]
        tails = [set() for _ in range(num_predicates)]
        for subject, predicate, object_ in relations:
            spans = []
            for start, end in (subject, object_):
                check_span(start, end, len(text), text)
                spans.append(token_span(offsets, start, end))
            if None in spans:
                continue
            for kind, (first, last) in zip(entities, spans, strict=True):
                kind.add(first * length + last)
            heads[predicate].add(spans[0][0] * length + spans[1][0])
            tails[predicate].add(spans[0][1] * length + spans[1][1])
        widths = {"entities": 2, "heads": 1, "tails": 1}
        rows = {"entities": entities, "heads": heads, "tails": tails}
        return {
            name: fill_up(
                [sorted(each) for each in rows[name]],
                self.max_relations * times,
                "max_relations",
            )
            for name, times in widths.items()
        }

    def get_config(self):
        return {**super().get_config(), "max_relations": self.max_relations}
