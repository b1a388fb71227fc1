"""Released GAU-α, RoFormer, RoFormerV2 and BERT models for Keras 3.

Example:

    import zoo

    model = zoo.load("gau-alpha")
    tokenizer = zoo.load_tokenizer("gau-alpha")
"""

from zoo.catalogue import describe, list_models
from zoo.loading import load, load_tokenizer
from zoo.saving import save

__all__ = ["describe", "list_models", "load", "load_tokenizer", "save"]
