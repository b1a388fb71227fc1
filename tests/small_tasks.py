"""What the tests of the tasks share: a small backbone, its words, one of each task."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from bert4keras3 import tasks
from bert4keras3.embedding_losses import CoSENTLoss
from bert4keras3.models.gau_alpha import GAUAlphaBackbone
from bert4keras3.tasks.entity_tags import bio_names
from bert4keras3.text import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
JIT = keras.backend.backend() != "torch"
# TensorFlow learns the same without XLA, whose compilation takes most of the time.
QUICK_JIT = keras.backend.backend() == "jax"


def tokenizer(characters):
    """A tokenizer of some characters, `ab` and the piece `##c`."""
    return Tokenizer([*SPECIAL, *sorted(set(characters)), "ab", "##c"])


def backbone(size, **arguments):
    """A GAU-α of one layer without dropout."""
    sizes = {"num_layers": 1, "hidden_dim": 16, "intermediate_dim": 32, "key_dim": 8}
    off = {"dropout": 0.0, "attention_dropout": 0.0}
    return GAUAlphaBackbone(size, **{**sizes, **off, **arguments})


CHARACTERS = "天地人山水在几个"
TEXTS = ["人在山", "天地在水人", "abc在天", "水在山水"]


@dataclasses.dataclass
class Example:
    """Four texts of a task with their labels.

    Attributes:
        x, y: what `fit` takes.
        answers: from a task to its answers in words about the texts.
        arguments: of the task.
        loss: what `compile` takes.
        preprocessing: arguments of the preprocessor.
    """

    x: Any
    y: Any
    answers: Callable
    arguments: dict = dataclasses.field(default_factory=dict)
    loss: Any = "auto"
    preprocessing: dict = dataclasses.field(default_factory=dict)


QUESTIONS = ["几个人"] * 4
CHOICES = [["人", "山", "水"], ["天", "地"], ["水", "人"], ["山", "天", "地"]]

EXAMPLES = {
    "text_classifier": Example(
        TEXTS,
        ["near", "far", "near", "far"],
        lambda task: task.classify(TEXTS, top_k=2),
        {"label_names": ["near", "far"]},
    ),
    "multiple_choice": Example(
        (TEXTS, CHOICES),
        [0, 1, 1, 2],
        lambda task: task.choose(TEXTS, CHOICES),
        preprocessing={"num_choices": 3},
    ),
    "question_answering": Example(
        (QUESTIONS, TEXTS),
        [{"text": text[:2], "answer_start": 0} for text in TEXTS],
        lambda task: task.answer(QUESTIONS, TEXTS),
    ),
    "token_classifier": Example(
        TEXTS,
        [[(0, 1, "who")], [(0, 2, "who")], [(0, 3, "who")], []],
        lambda task: task.tag(TEXTS),
        {"label_names": bio_names(["who"]), "decoder": "crf"},
    ),
    "entity_recognizer": Example(
        TEXTS,
        [[(0, 1, "who")], [(0, 2, "who"), (3, 5, "where")], [(0, 3, "who")], []],
        lambda task: task.recognize(TEXTS),
        {"label_names": ["who", "where"], "head_dim": 8},
    ),
    "relation_extractor": Example(
        TEXTS,
        [[((0, 1), "in", (2, 3))], [((0, 2), "in", (3, 5))], [], []],
        lambda task: task.extract(TEXTS),
        {"label_names": ["in"], "head_dim": 8},
    ),
    "text_embedder": Example(
        (TEXTS, TEXTS[::-1]),
        [1, 0, 0, 1],
        lambda task: task.embed(TEXTS).tolist(),
        loss=CoSENTLoss(),
    ),
    "masked_lm": Example(
        TEXTS, None, lambda task: task.fill([f"[MASK]{text}" for text in TEXTS])
    ),
}


def small_task(name, length=12, **arguments):
    """The task of an example; further arguments are the backbone's."""
    words, example = tokenizer(CHARACTERS), EXAMPLES[name]
    task_class = tasks.get(name)
    preprocessor = task_class.preprocessor_class(words, length, **example.preprocessing)
    body = backbone(words.vocabulary_size, **arguments)
    return task_class(body, preprocessor, **example.arguments)
