"""Heads for the backbones, found by name."""

import importlib

from bert4keras3.naming import lookup

TASKS = {
    "masked_lm": ("bert4keras3.tasks.masked_lm", "MaskedLM"),
    "next_sentence": ("bert4keras3.tasks.next_sentence", "NextSentence"),
}


def get(name):
    """Return the class of a task by its name.

    Raises:
        ValueError: unknown name.
    """
    module, class_name = lookup(name, TASKS, "task")
    return getattr(importlib.import_module(module), class_name)
