"""Our models in KerasHub: presets, tasks, LoRA and quantization by its public API.

Importing this package imports KerasHub, and registers the classes below with Keras.
After that `keras_hub.models.TextClassifier.from_preset` and its like read presets that
were saved from them.
"""

from bert4keras3.hub.backbone import Backbone
from bert4keras3.hub.masked_lm import MaskedLM
from bert4keras3.hub.preprocessors import (
    MaskedLMPreprocessor,
    TextClassifierPreprocessor,
    TextEmbedderPreprocessor,
)
from bert4keras3.hub.roformer_v2 import load_roformer_v2
from bert4keras3.hub.text_classifier import TextClassifier
from bert4keras3.hub.text_embedder import TextEmbedder
from bert4keras3.hub.tokenizer import Tokenizer
from bert4keras3.hub.wrapping import wrap

__all__ = [
    "Backbone",
    "MaskedLM",
    "MaskedLMPreprocessor",
    "TextClassifier",
    "TextClassifierPreprocessor",
    "TextEmbedder",
    "TextEmbedderPreprocessor",
    "Tokenizer",
    "load_roformer_v2",
    "wrap",
]
