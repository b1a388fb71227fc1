"""Where words begin in a sentence: by name, or by a function of the user."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable

__all__ = ["SEGMENTERS", "segmenter_name", "word_segmenter"]

Segment = Callable[[str], Iterable[str]]


def jieba_words() -> Segment:
    """Return jieba's cut by dictionary alone, on a dictionary of its own.

    Its hidden Markov model invents words, and makes the cut depend on neighbours.

    Raises:
        ImportError: if jieba is not installed.
    """
    try:
        import jieba
    except ImportError as error:
        raise ImportError(
            "The segmenter 'jieba' needs the package jieba: pip install "
            '"bert4keras3-zoo[words]". Text that has spaces between its words takes '
            "the segmenter 'spaces'."
        ) from error
    jieba.setLogLevel("ERROR")
    tokenizer = jieba.Tokenizer()
    return lambda sentence: tokenizer.cut(sentence, HMM=False)


def words_between_spaces() -> Segment:
    """Return the cut at spaces, for text that was segmented before."""
    return str.split


def characters() -> Segment:
    """Return a cut that makes every character a word."""
    return list


SEGMENTERS = {
    "jieba": jieba_words,
    "spaces": words_between_spaces,
    "characters": characters,
}


def word_segmenter(segmenter: str | Segment) -> Segment:
    """Return a function from a sentence to its words, which joined are the sentence.

    Args:
        segmenter: a name of `SEGMENTERS`; `"module:function"`, which every process and
            machine can import; or a function.

    Raises:
        ValueError: if there is no such name.
        ImportError: if a module or its function cannot be imported.

    Example:

    >>> word_segmenter("spaces")("今天 天气 好")
    ['今天', '天气', '好']
    """
    if callable(segmenter):
        return segmenter
    if segmenter in SEGMENTERS:
        return SEGMENTERS[segmenter]()
    module, colon, function = segmenter.partition(":")
    if not colon:
        raise ValueError(
            f"There is no segmenter {segmenter!r}. Pass one of "
            f"{', '.join(map(repr, SEGMENTERS))}, a function, or 'module:function'."
        )
    try:
        found: Segment = getattr(importlib.import_module(module), function)
    except AttributeError as error:
        raise ImportError(f"The module {module} has no {function!r}.") from error
    return found


def segmenter_name(segmenter: str | Segment) -> str:
    """Return what a manifest calls a segmenter."""
    if isinstance(segmenter, str):
        return segmenter
    return f"{segmenter.__module__}:{getattr(segmenter, '__qualname__', segmenter)}"
