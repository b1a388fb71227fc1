"""Heads for the backbones, found by name."""

import importlib

from bert4keras3.naming import lookup

TASKS = {
    "entity_recognizer": ("bert4keras3.tasks.entity_recognizer", "EntityRecognizer"),
    "masked_lm": ("bert4keras3.tasks.masked_lm", "MaskedLM"),
    "multiple_choice": ("bert4keras3.tasks.multiple_choice", "MultipleChoice"),
    "next_sentence": ("bert4keras3.tasks.next_sentence", "NextSentence"),
    "question_answering": (
        "bert4keras3.tasks.question_answering",
        "QuestionAnswering",
    ),
    "relation_extractor": (
        "bert4keras3.tasks.relation_extractor",
        "RelationExtractor",
    ),
    "text_classifier": ("bert4keras3.tasks.text_classifier", "TextClassifier"),
    "text_embedder": ("bert4keras3.tasks.text_embedder", "TextEmbedder"),
    "token_classifier": ("bert4keras3.tasks.token_classifier", "TokenClassifier"),
}


def get(name):
    """Return the class of a task by its name.

    Raises:
        ValueError: unknown name.
    """
    module, class_name = lookup(name, TASKS, "task")
    return getattr(importlib.import_module(module), class_name)
