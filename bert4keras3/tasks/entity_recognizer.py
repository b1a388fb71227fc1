"""Entities, nested ones too, by a global pointer over all spans."""

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.global_pointer import EfficientGlobalPointer, GlobalPointer
from bert4keras3.losses import sparse_multilabel_categorical_crossentropy
from bert4keras3.naming import lookup
from bert4keras3.tasks.entity_recognizer_preprocessor import (
    EntityRecognizerPreprocessor,
)
from bert4keras3.tasks.label_names import check_label_names, label_ids, name_of
from bert4keras3.tasks.task import Task
from bert4keras3.tasks.token_offsets import outputs_with_offsets
from bert4keras3.text.inputs import as_batch

POINTERS = {"efficient": EfficientGlobalPointer, "global": GlobalPointer}


@keras.saving.register_keras_serializable(package="bert4keras3")
class EntityRecognizer(Task):
    """Scores every span of tokens for every type; those above zero are entities.

    Trained by the multilabel cross-entropy over all spans of a type
    (https://kexue.fm/archives/7359). With raw text, labels are for each text a list of
    `(start, end, type)`: half-open characters, and a name or a number.

    Args:
        backbone: a `Backbone`.
        preprocessor: an `EntityRecognizerPreprocessor`, or `None`.
        num_classes: number `N` of types; by default that of `label_names`.
        label_names: names of the types, in their order.
        pointer: `"efficient"` (https://kexue.fm/archives/8877) shares the span scores
            of all types, `"global"` (https://kexue.fm/archives/8373) does not.
        head_dim: size of the pointer's vectors.
        head_dropout: rate before the pointer.

    Call arguments:
        inputs: dict of the backbone's inputs, and `token_mask` `(B, T)`, 1 for tokens
            that may begin or end an entity.

    Returns:
        float32 logits `(B, N, T * T)`, span `(s, e)`, `e` inclusive, at `s * T + e`;
        -1e9 for spans that cannot be.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> backbone = GAUAlphaBackbone(50, 1, 16, 32, key_dim=8)
    >>> model = EntityRecognizer(backbone, label_names=["name", "place"])
    >>> tuple(model({"token_ids": np.array([[2, 9, 9, 3]])}).shape)
    (1, 2, 16)
    """

    preprocessor_class = EntityRecognizerPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        num_classes=None,
        label_names=None,
        pointer="efficient",
        head_dim=64,
        head_dropout=0.0,
        **kwargs,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.label_names, self.num_classes = check_label_names(
            label_names, num_classes, "types"
        )
        self.pointer_name = pointer
        policy = backbone.token_embedding.dtype_policy
        self.dropout_layer = keras.layers.Dropout(head_dropout, dtype=policy)
        self.pointer = lookup(pointer, POINTERS, "pointer")(
            self.num_classes, head_dim, dtype=policy, name="pointer"
        )
        self.pointer.build((None, None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        token_mask = inputs.pop("token_mask", None)
        inputs = self.backbone.complete_inputs(inputs)
        mask = inputs["padding_mask"] if token_mask is None else token_mask
        x = self.hidden_states(inputs, training=training)
        x = self.dropout_layer(x, training=training)
        return flat_spans(self.pointer(x, mask))

    def default_loss(self):
        return span_loss

    def prepare_labels(self, labels, texts):
        return [
            (self.num_classes, self._entities(row, entities))
            for row, entities in enumerate(labels)
        ]

    def _entities(self, row, entities):
        try:
            kinds = [kind for _, _, kind in entities]
        except (TypeError, ValueError) as error:
            raise ValueError(
                "The label of a text is a list of entities (start, end, type). "
                f"Received {entities!r} at row {row}."
            ) from error
        place = f"row {row}, entity"
        ids = label_ids(kinds, self.label_names, self.num_classes, place)
        return [
            (start, end, int(kind))
            for (start, end, _), kind in zip(entities, ids, strict=True)
        ]

    def recognize(self, texts, threshold=0.0, batch_size=32):
        """Entities of a text or of several.

        Args:
            texts: a string or a list of strings.
            threshold: the least logit of an entity.
            batch_size: texts per batch.

        Returns:
            A list of dicts `start`, `end` (half-open, in characters), `type`, `text`
            and `score` (the logit), in the order of the text; or a list of these.

        Raises:
            ValueError: the task has no preprocessor.
        """
        single = isinstance(texts, str)
        texts = as_batch(texts, "texts")
        found = []
        for rows, offsets, _, logits in outputs_with_offsets(self, texts, batch_size):
            for text, spans, scores in zip(rows, offsets, logits, strict=True):
                entities = [
                    {
                        "start": spans[first][0],
                        "end": spans[last][1],
                        "type": name_of(kind, self.label_names),
                        "text": text[spans[first][0] : spans[last][1]],
                        "score": score,
                    }
                    for kind, first, last, score in spans_above(scores, threshold)
                ]
                found.append(sorted(entities, key=lambda e: (e["start"], e["end"])))
        return found[0] if single else found

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "label_names": self.label_names,
            "pointer": self.pointer_name,
            "head_dim": self.pointer.head_dim,
            "head_dropout": self.dropout_layer.rate,
        }


def flat_spans(logits):
    """`(B, N, T, T)` to `(B, N, T * T)`, the form in which spans are classes."""
    _, num_classes, length, _ = ops.shape(logits)
    return ops.reshape(logits, (-1, num_classes, length * length))


def span_loss(labels, logits):
    """Multilabel cross-entropy over the spans of a type, mean over types, `(B,)`.

    Args:
        labels: integers `(B, N, K)`, indices of the right spans, negative ones fill up.
        logits: `(B, N, T * T)`.
    """
    return ops.mean(sparse_multilabel_categorical_crossentropy(labels, logits), axis=-1)


def spans_above(logits, threshold=0.0):
    """Spans of one text whose logit is above a threshold.

    Args:
        logits: array `(N, T * T)`.
        threshold: number.

    Returns:
        List of `(class, first token, last token, logit)`.
    """
    length = int(round(logits.shape[-1] ** 0.5))
    return [
        (
            int(kind),
            int(index // length),
            int(index % length),
            float(logits[kind, index]),
        )
        for kind, index in np.argwhere(logits > threshold)
    ]
