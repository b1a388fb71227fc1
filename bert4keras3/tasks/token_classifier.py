"""One tag per token: softmax, CRF or MEMM."""

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.conditional_random_field import (
    ConditionalRandomField,
    MaximumEntropyMarkovModel,
)
from bert4keras3.naming import lookup
from bert4keras3.tasks.entity_tags import entities_of_tags, tags_of_entities
from bert4keras3.tasks.label_names import check_label_names, label_ids, name_of
from bert4keras3.tasks.task import Task, to_numpy
from bert4keras3.tasks.token_classifier_preprocessor import (
    TokenClassifierPreprocessor,
)
from bert4keras3.tasks.token_offsets import outputs_with_offsets
from bert4keras3.text.inputs import as_batch


@keras.saving.register_keras_serializable(package="bert4keras3")
class IndependentTags(keras.layers.Layer):
    """Every token by itself: `p(y_t | x) = softmax(logits_t)`.

    It is called as a CRF is, and has no weight.
    """

    def call(self, logits):
        return ops.cast(logits, "float32")

    def loss(self, labels, logits):
        """Mean cross-entropy of the tokens with a tag; float32 scalar."""
        there = ops.cast(labels >= 0, "float32")
        losses = ops.sparse_categorical_crossentropy(
            ops.maximum(ops.cast(labels, "int32"), 0), logits, from_logits=True
        )
        return ops.sum(losses * there) / ops.maximum(ops.sum(there), 1.0)

    def decode(self, logits, padding_mask):
        """int32 `(B, T)`, -1 where there is no token."""
        best = ops.cast(ops.argmax(logits, axis=-1), "int32")
        return ops.where(ops.cast(padding_mask, "bool"), best, -1)

    def get_config(self):
        # Keras's automatic config refuses a dtype policy that is given as an object.
        return super().get_config()


DECODERS = {
    "crf": ConditionalRandomField,
    "memm": MaximumEntropyMarkovModel,
    "softmax": IndependentTags,
}


@keras.saving.register_keras_serializable(package="bert4keras3")
class TokenClassifier(Task):
    """Tags of tokens, for parts of speech, segmentation or flat entities.

    With raw text, labels are for each text the tags of its characters (names, or
    numbers), or, when `label_names` are BIO tags, a list of entities
    `(start, end, type)`, half-open.

    Args:
        backbone: a `Backbone`.
        preprocessor: a `TokenClassifierPreprocessor`, or `None`.
        num_classes: number `C` of tags; by default that of `label_names`.
        label_names: names of the tags, in their order; `entity_tags.bio_names` gives
            those of entities.
        decoder: `"softmax"`, `"crf"` (https://kexue.fm/archives/5542) or `"memm"`
            (https://kexue.fm/archives/7213), which also is the loss.
        lr_multiplier: how many times faster the transitions of a CRF or MEMM learn, see
            `layers.conditional_random_field`.
        head_dropout: rate before the last layer.

    Call arguments:
        inputs: dict of the backbone's inputs, and `token_mask` `(B, T)`, 1 for tokens
            that have a tag.

    Returns:
        float32 logits `(B, T, C)`.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> backbone = GAUAlphaBackbone(50, 1, 16, 32, key_dim=8)
    >>> model = TokenClassifier(backbone, num_classes=3, decoder="crf")
    >>> tuple(model({"token_ids": np.array([[2, 9, 9, 3]])}).shape)
    (1, 4, 3)
    """

    preprocessor_class = TokenClassifierPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        num_classes=None,
        label_names=None,
        decoder="softmax",
        lr_multiplier=1.0,
        head_dropout=0.0,
        **kwargs,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.label_names, self.num_classes = check_label_names(label_names, num_classes)
        self.decoder_name = decoder
        self.lr_multiplier = lr_multiplier
        policy = backbone.token_embedding.dtype_policy
        decoder_class = lookup(decoder, DECODERS, "decoder")
        arguments = {"lr_multiplier": lr_multiplier} if decoder != "softmax" else {}
        self.decoder = decoder_class(**arguments, dtype="float32", name="decoder")
        self.dropout_layer = keras.layers.Dropout(head_dropout, dtype=policy)
        self.head = keras.layers.Dense(
            self.num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=policy,
            name="head",
        )
        self.head.build((None, None, backbone.hidden_dim))
        self.decoder.build((None, None, self.num_classes))
        self.built = True

    def call(self, inputs, training=None):
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        inputs.pop("token_mask", None)
        x = self.hidden_states(inputs, training=training)
        x = self.head(self.dropout_layer(x, training=training))
        return ops.cast(x, "float32")

    def default_loss(self):
        return self.decoder.loss

    def default_metrics(self):
        return [tag_accuracy]

    def prepare_labels(self, labels, texts):
        return [
            label_ids(
                self._tags(row, text, each),
                self.label_names,
                self.num_classes,
                f"row {row}, character",
            )
            for row, (text, each) in enumerate(zip(texts, labels, strict=True))
        ]

    def _tags(self, row, text, labels):
        """Tags of the characters of a text, from tags or from entities."""
        if not isinstance(labels, str | list | tuple | np.ndarray):
            raise TypeError(
                "The label of a text is a list: a tag for each character, or entities "
                f"(start, end, type). Received {labels!r} at row {row}."
            )
        if len(text) and (len(labels) == 0 or isinstance(labels[0], tuple | list)):
            return tags_of_entities(len(text), labels, text)
        return labels

    def tag(self, texts, batch_size=32):
        """The tag of every character of a text or of several.

        A token's tag is that of all its characters, with `B-` turned into `I-` after
        the first. Characters that belong to no token (spaces, and what was cut off)
        have `O`, or `None` if there is no such tag.

        Returns:
            A list of tags, as long as the text, or a list of these.
        """
        single = isinstance(texts, str)
        texts = as_batch(texts, "texts")
        found = []
        for rows, offsets, inputs, logits in outputs_with_offsets(
            self, texts, batch_size
        ):
            best = to_numpy(self.decoder.decode(logits, inputs["token_mask"]))
            found += [
                self._spread(text, spans, tags)
                for text, spans, tags in zip(rows, offsets, best, strict=True)
            ]
        return found[0] if single else found

    def recognize(self, texts, batch_size=32):
        """Entities `(start, end, type)` of a text or of several, by BIO tags."""
        tags = self.tag(texts, batch_size)
        if isinstance(texts, str):
            return entities_of_tags(tags)
        return [entities_of_tags(each) for each in tags]

    def _spread(self, text, spans, tags):
        names = self.label_names
        outside = "O" if names and "O" in names else None
        spread = [outside] * len(text)
        for span, tag in zip(spans, tags, strict=False):
            if span is None or tag < 0:
                continue
            name = name_of(int(tag), names)
            rest = f"I-{name[2:]}" if str(name).startswith("B-") else name
            spread[span[0] : span[1]] = [name, *[rest] * (span[1] - span[0] - 1)]
        return spread

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "label_names": self.label_names,
            "decoder": self.decoder_name,
            "lr_multiplier": self.lr_multiplier,
            "head_dropout": self.dropout_layer.rate,
        }


def tag_accuracy(labels, logits):
    """Share of the tokens whose tag has the largest logit, for `metrics`.

    Args:
        labels: integers `(B, T)`, negative where there is no tag.
        logits: `(B, T, C)`.

    Returns:
        float32 scalar.
    """
    there = ops.cast(labels >= 0, "float32")
    right = ops.cast(ops.argmax(logits, axis=-1), "int32") == ops.cast(labels, "int32")
    right = ops.cast(right, "float32") * there
    return ops.sum(right) / ops.maximum(ops.sum(there), 1.0)
