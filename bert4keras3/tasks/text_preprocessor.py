"""From raw text to the inputs of a task with one label per text."""

import keras
import numpy as np

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.text.tokenizer_config import tokenizer_config


@keras.saving.register_keras_serializable(package="bert4keras3")
class TextPreprocessor:
    """Encodes texts or pairs of texts; labels pass through as an array.

    Base class of the preprocessors. A subclass with other labels or inputs overrides
    `__call__`, and `get_config` if it has more arguments.

    Args:
        tokenizer: a `Tokenizer`.
        sequence_length: length of the arrays, or several lengths (buckets) of which the
            smallest that fits is taken; longer texts are cut. `None` for the longest
            text of the batch. A compiled model is compiled once per length.

    Call arguments:
        texts: list of strings.
        pairs: second texts, or `None`.
        labels: one number per text, or `None`.
        inputs_only: give the inputs without labels, for prediction.

    Returns:
        `inputs`, a dict of arrays `(B, T)`, or `(inputs, labels)`.

    Example:

    >>> from bert4keras3.text import Tokenizer
    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好"])
    >>> inputs, labels = TextPreprocessor(tokenizer)(["好", "好好"], labels=[1, 0])
    >>> inputs["token_ids"].shape, labels.shape
    ((2, 4), (2,))
    """

    def __init__(self, tokenizer, sequence_length=None):
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        inputs = self.tokenizer(texts, pairs, length=self.sequence_length)
        if inputs_only or labels is None:
            return inputs
        return inputs, np.asarray(labels)

    def get_config(self):
        return {
            "tokenizer": tokenizer_config(self.tokenizer),
            "sequence_length": self.sequence_length,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "tokenizer": Tokenizer(**config["tokenizer"])})
