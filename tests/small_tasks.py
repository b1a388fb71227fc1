"""What the tests of the tasks share: a small backbone and its words."""

import keras

from bert4keras3.models.gau_alpha import GAUAlphaBackbone
from bert4keras3.text import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
JIT = keras.backend.backend() != "torch"


def tokenizer(characters):
    """A tokenizer of some characters, `ab` and the piece `##c`."""
    return Tokenizer([*SPECIAL, *sorted(set(characters)), "ab", "##c"])


def backbone(size, **arguments):
    """A GAU-α of one layer without dropout."""
    sizes = {"num_layers": 1, "hidden_dim": 16, "intermediate_dim": 32, "key_dim": 8}
    off = {"dropout": 0.0, "attention_dropout": 0.0}
    return GAUAlphaBackbone(size, **{**sizes, **off, **arguments})
