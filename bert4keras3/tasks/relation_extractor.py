"""Relations between spans: GPLinker."""

import keras
import numpy as np

from bert4keras3.layers.global_pointer import EfficientGlobalPointer
from bert4keras3.tasks.entity_recognizer import flat_spans, span_loss, spans_above
from bert4keras3.tasks.label_names import check_label_names, label_ids, name_of
from bert4keras3.tasks.relation_extractor_preprocessor import (
    RelationExtractorPreprocessor,
)
from bert4keras3.tasks.task import Task
from bert4keras3.tasks.token_offsets import outputs_with_offsets
from bert4keras3.text.inputs import as_batch


@keras.saving.register_keras_serializable(package="bert4keras3")
class RelationExtractor(Task):
    """Triples (subject, predicate, object) of a text, overlapping ones too.

    `S(s_h, s_t | p | o_h, o_t) = S(s_h, s_t) + S(o_h, o_t) + S(s_h, o_h | p)
    + S(s_t, o_t | p)`: three global pointers, one for the spans of subjects and of
    objects, one for the pairs of first tokens of each predicate, one for those of last
    tokens. A triple is found where all four are above zero.

    Source: GPLinker, https://kexue.fm/archives/8888. With raw text, labels are for each
    text a list of `((start, end), predicate, (start, end))`, subject first, half-open
    characters, the predicate by name or number.

    Args:
        backbone: a `Backbone`.
        preprocessor: a `RelationExtractorPreprocessor`, or `None`.
        num_classes: number `P` of predicates; by default that of `label_names`.
        label_names: names of the predicates, in their order.
        head_dim: size of the pointers' vectors.

    Call arguments:
        inputs: dict of the backbone's inputs, and `token_mask` `(B, T)`.

    Returns:
        Dict of float32 logits: `entities` `(B, 2, T * T)`, `heads` and `tails`
        `(B, P, T * T)`.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> backbone = GAUAlphaBackbone(50, 1, 16, 32, key_dim=8)
    >>> model = RelationExtractor(backbone, label_names=["author", "birthplace"])
    >>> logits = model({"token_ids": np.array([[2, 9, 9, 3]])})
    >>> tuple(logits["heads"].shape)
    (1, 2, 16)
    """

    preprocessor_class = RelationExtractorPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        num_classes=None,
        label_names=None,
        head_dim=64,
        **kwargs,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.label_names, self.num_classes = check_label_names(
            label_names, num_classes, "predicates"
        )
        self.head_dim = head_dim
        policy = backbone.token_embedding.dtype_policy
        self.entities = EfficientGlobalPointer(
            2, head_dim, dtype=policy, name="entities"
        )
        # A subject may stand behind its object, and near or far from it.
        linking = {
            "rotary_embedding": None,
            "exclude_reversed": False,
            "dtype": policy,
        }
        self.heads = EfficientGlobalPointer(
            self.num_classes, head_dim, name="heads", **linking
        )
        self.tails = EfficientGlobalPointer(
            self.num_classes, head_dim, name="tails", **linking
        )
        for pointer in (self.entities, self.heads, self.tails):
            pointer.build((None, None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        token_mask = inputs.pop("token_mask", None)
        inputs = self.backbone.complete_inputs(inputs)
        mask = inputs["padding_mask"] if token_mask is None else token_mask
        x = self.hidden_states(inputs, training=training)
        return {
            "entities": flat_spans(self.entities(x, mask)),
            "heads": flat_spans(self.heads(x, mask)),
            "tails": flat_spans(self.tails(x, mask)),
        }

    def default_loss(self):
        return {"entities": span_loss, "heads": span_loss, "tails": span_loss}

    def prepare_labels(self, labels, texts):
        prepared = []
        for row, relations in enumerate(labels):
            try:
                names = [predicate for _, predicate, _ in relations]
                spans = [((a, b), (c, d)) for (a, b), _, (c, d) in relations]
            except (TypeError, ValueError) as error:
                raise ValueError(
                    "The label of a text is a list of relations ((start, end), "
                    f"predicate, (start, end)). Received {relations!r} at row {row}."
                ) from error
            place = f"row {row}, relation"
            ids = label_ids(names, self.label_names, self.num_classes, place)
            triples = [
                (subject, int(predicate), object_)
                for (subject, object_), predicate in zip(spans, ids, strict=True)
            ]
            prepared.append((self.num_classes, triples))
        return prepared

    def extract(self, texts, threshold=0.0, batch_size=32):
        """Relations of a text or of several.

        Args:
            texts: a string or a list of strings.
            threshold: the least logit of each of the four parts.
            batch_size: texts per batch.

        Returns:
            A list of dicts `subject`, `predicate`, `object` (names and texts), and
            `subject_span`, `object_span` (half-open characters); or a list of these.

        Raises:
            ValueError: the task has no preprocessor.
        """
        single = isinstance(texts, str)
        texts = as_batch(texts, "texts")
        found = []
        for rows, offsets, _, outputs in outputs_with_offsets(self, texts, batch_size):
            for place, (text, spans) in enumerate(zip(rows, offsets, strict=True)):
                logits = {name: array[place] for name, array in outputs.items()}
                triples = linked(logits, threshold)
                found.append([self._readable(text, spans, each) for each in triples])
        return found[0] if single else found

    def _readable(self, text, offsets, triple):
        (subject, predicate, object_) = triple
        characters = [
            (offsets[first][0], offsets[last][1]) for first, last in (subject, object_)
        ]
        return {
            "subject": text[slice(*characters[0])],
            "predicate": name_of(predicate, self.label_names),
            "object": text[slice(*characters[1])],
            "subject_span": characters[0],
            "object_span": characters[1],
        }

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "label_names": self.label_names,
            "head_dim": self.head_dim,
        }


def linked(logits, threshold=0.0):
    """Triples whose four parts are all above the threshold.

    Args:
        logits: dict of `entities` `(2, T * T)`, `heads` and `tails` `(P, T * T)`.
        threshold: number.

    Returns:
        Sorted list of `((first, last), predicate, (first, last))`, in tokens.
    """
    length = int(round(logits["heads"].shape[-1] ** 0.5))
    spans = [[], []]
    for kind, first, last, _ in spans_above(logits["entities"], threshold):
        spans[kind].append((first, last))
    heads, tails = logits["heads"], logits["tails"]
    triples = []
    for subject in spans[0]:
        for object_ in spans[1]:
            together = np.minimum(
                heads[:, subject[0] * length + object_[0]],
                tails[:, subject[1] * length + object_[1]],
            )
            for predicate in np.flatnonzero(together > threshold):
                triples.append((subject, int(predicate), object_))
    return sorted(triples)
