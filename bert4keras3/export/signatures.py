"""What an exported model can be asked: the signatures that every model has."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bert4keras3.text.graph_tokenizer import GraphTokenizer
from bert4keras3.text.tokenizer import Tokenizer

__all__ = ["Signature", "Signatures", "signatures_of"]

# A function of tensors, and what they are, in the order of its arguments.
Signature = tuple[Callable[..., dict[str, Any]], Sequence[tf.TensorSpec]]
TEXT = tf.TensorSpec([None], "string", name="text")
PAIR = tf.TensorSpec([None], "string", name="pair")
# Class of a task -> module and class of its signatures.
OF_TASKS = {
    "EntityRecognizer": ("entity_signatures", "EntitySignatures"),
    "MaskedLM": ("blank_signatures", "BlankSignatures"),
    "MultipleChoice": ("choice_signatures", "ChoiceSignatures"),
    "QuestionAnswering": ("answer_signatures", "AnswerSignatures"),
    "RelationExtractor": ("relation_signatures", "RelationSignatures"),
    "TextClassifier": ("class_signatures", "ClassSignatures"),
    "TextEmbedder": ("vector_signatures", "VectorSignatures"),
    "TokenClassifier": ("tag_signatures", "TagSignatures"),
}


class Signatures:
    """The questions to a model and its answers, as TensorFlow functions.

    Every model answers to `tokenized` (token ids in, outputs of the model) and, if it
    has a tokenizer, to `tokens` (text in; ids and character spans), `embeddings` (text
    in; vectors) and `serving_default` (text in; what the task is for). A subclass
    overrides `answer`, and `columns` where it takes other texts.

    Args:
        model: a task or a backbone.
        tokenizer: its `Tokenizer`, or `None`.
        pairs: whether `serving_default` takes two texts.
    """

    # Tokens that are recognised in texts: names of attributes of the tokenizer.
    special: tuple[str, ...] = ()
    # Inputs of the task beside those of a backbone, int32 `(B, T)`.
    more_inputs: tuple[str, ...] = ()

    def __init__(
        self, model: Any, tokenizer: Tokenizer | None = None, pairs: bool = False
    ):
        self.model = model
        self.backbone = getattr(model, "backbone", model)
        self.pairs = pairs
        self.tokenizer = None
        if tokenizer is not None:
            special = [getattr(tokenizer, name) for name in self.special]
            self.tokenizer = GraphTokenizer(tokenizer, [s for s in special if s])
        lengths = getattr(getattr(model, "preprocessor", None), "sequence_length", None)
        self.max_length = None if lengths is None else int(np.max(lengths))

    def signatures(self) -> dict[str, Signature]:
        """Return name -> function and the specs of its arguments."""
        found: dict[str, Signature] = {
            "tokenized": (self._tokenized, self.tokenized_columns())
        }
        if self.tokenizer is not None:
            found["serving_default"] = (self.answer, self.columns())
            found["embeddings"] = (self.embeddings, [TEXT])
            found["tokens"] = (self.tokens, [TEXT])
        return found

    def columns(self) -> list[tf.TensorSpec]:
        """What `serving_default` takes."""
        return [TEXT, PAIR] if self.pairs else [TEXT]

    def tokenized_columns(self) -> list[tf.TensorSpec]:
        """What `tokenized` takes."""
        names = ["token_ids", "segment_ids", "padding_mask", *self.more_inputs]
        specs = [tf.TensorSpec([None, None], "int32", name=name) for name in names]
        if self.backbone.use_position_ids:
            specs.append(tf.TensorSpec([None, None], "float32", name="position_ids"))
        return specs

    # --- Signatures -------------------------------------------------------------------

    def answer(self, text: Any, pair: Any = None) -> dict[str, Any]:
        """What `serving_default` gives: here the hidden states."""
        inputs = self.encode(text, pair)
        outputs = self.outputs(model_inputs(inputs))
        return {**outputs, "padding_mask": tf.cast(inputs["padding_mask"], "int32")}

    def embeddings(self, text: Any) -> dict[str, Any]:
        """Vectors of texts: the mean over the tokens, and that of `[CLS]`."""
        inputs = self.encode(text)
        states = self.hidden_states(model_inputs(inputs))
        mask = tf.cast(inputs["padding_mask"], "float32")[:, :, None]
        mean = tf.reduce_sum(states * mask, 1) / tf.maximum(tf.reduce_sum(mask, 1), 1.0)
        return {"mean": mean, "first": states[:, 0]}

    def tokens(self, text: Any) -> dict[str, Any]:
        """Token ids, and half-open character spans, -1 for what is no text."""
        inputs = self.encode(text)
        names = ("token_ids", "starts", "ends")
        return {name: inputs[name] for name in names}

    def _tokenized(self, *tensors: Any) -> dict[str, Any]:
        names = [spec.name for spec in self.tokenized_columns()]
        inputs = dict(zip(names, tensors, strict=True))
        checks = [
            tf.debugging.assert_less(
                inputs[name],
                limit,
                f"{name} must be below {limit}.",
            )
            for name, limit in (
                ("token_ids", self.backbone.vocabulary_size),
                ("segment_ids", self.backbone.num_segments),
            )
        ]
        checks.append(tf.debugging.assert_non_negative(inputs["token_ids"]))
        with tf.control_dependencies([each for each in checks if each is not None]):
            inputs = {name: tf.identity(each) for name, each in inputs.items()}
        return self.outputs(inputs)

    # --- The model --------------------------------------------------------------------

    def encode(self, text: Any, pair: Any = None) -> dict[str, Any]:
        """Arrays of texts, with the spans of their tokens."""
        if self.tokenizer is None:
            raise ValueError("This model was given no tokenizer.")
        return self.tokenizer.encode(text, pair, self.max_length)

    def outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Outputs of the model by name, float32."""
        outputs = self.model(inputs, training=False)
        if not isinstance(outputs, dict):
            outputs = {self.output_name(): outputs}
        return {name: tf.cast(each, "float32") for name, each in outputs.items()}

    def output_name(self) -> str:
        return "hidden_states" if self.model is self.backbone else "logits"

    def hidden_states(self, inputs: dict[str, Any]) -> Any:
        states = self.backbone(inputs, training=False)
        states = states["hidden_states"] if isinstance(states, dict) else states
        return tf.cast(states, "float32")


def signatures_of(model: Any) -> type[Signatures]:
    """Return the class of the signatures of a model, by the name of its class."""
    for parent in type(model).__mro__:
        if parent.__name__ in OF_TASKS:
            module, name = OF_TASKS[parent.__name__]
            found = importlib.import_module(f"bert4keras3.export.{module}")
            return getattr(found, name)
    return Signatures


def model_inputs(encoded: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a backbone among what a tokenizer gives."""
    return {
        "token_ids": encoded["token_ids"],
        "segment_ids": encoded["segment_ids"],
        "padding_mask": tf.cast(encoded["padding_mask"], "int32"),
    }


def token_inputs(encoded: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a task that reads single texts token by token."""
    mask = tf.cast(encoded["starts"] >= 0, "int32")
    return {**model_inputs(encoded), "token_mask": mask}


def names_of_classes(model: Any) -> Any:
    """The names of the classes of a task as a string tensor; numbers without names."""
    names = model.label_names
    if names is None:
        names = range(model.num_classes)
    return tf.constant([str(name) for name in names])


def in_rows(values: Any, rows: Any, num_rows: Any, default: Any) -> Any:
    """Values of rows, in their order, as a table `(B, most)`, filled up."""
    ragged = tf.RaggedTensor.from_value_rowids(
        values, tf.cast(rows, "int64"), nrows=tf.cast(num_rows, "int64"), validate=False
    )
    return ragged.to_tensor(default)


def pieces_of(text: Any, rows: Any, starts: Any, ends: Any) -> Any:
    """The characters from `starts` to `ends` of texts, one for each of `rows`."""
    # What is no UTF-8 counts one character, as it does in the tokenizer.
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.substr(
        tf.gather(text, rows), starts, ends - starts, unit="UTF8_CHAR"
    )
