"""What a row of the zoo's table says about a released model.

Importing this module imports neither Keras nor a model: `architecture` is a word, and
`Preset.backbone_class()` resolves it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from zoo.scores import Score, published_scores

BACKBONES = {
    "gau_alpha": ("bert4keras3.models.gau_alpha", "GAUAlphaBackbone"),
    "roformer": ("bert4keras3.models.roformer", "RoFormerBackbone"),
    "roformer_v2": ("bert4keras3.models.roformer_v2", "RoFormerV2Backbone"),
    "bert": ("bert4keras3.models.bert", "BertBackbone"),
}


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary a released model was trained on.

    `kind` is "char" (every Chinese character is a token) or "word" (text is first cut
    into words by jieba with `HMM=False`, then into word pieces).
    """

    size: int
    kind: Literal["char", "word"]
    sha256: str | None = None
    lowercase: bool = True

    @property
    def pre_tokenize(self) -> str | None:
        """The tokenizer's `pre_tokenize` argument: "jieba" for words, else None."""
        return "jieba" if self.kind == "word" else None


@dataclass(frozen=True)
class Mirror:
    """A repository on the Hugging Face hub that holds the same weights for PyTorch."""

    repo_id: str
    files: tuple[str, ...] = ("config.json", "vocab.txt", "pytorch_model.bin")


@dataclass(frozen=True)
class Preset:
    """A released model as a row of data.

    Attributes:
        name: the name `zoo.load` takes.
        architecture: a key of `BACKBONES`.
        config: every constructor argument that differs between released models.
        archive: name of the released zip without ".zip", which is also the name of
            the folder inside; None for a bundled model.
        urls: official addresses of the zip, tried in order.
        sha256: checksum of the zip, None where nobody has published one.
        mirrors: hub repositories with the same weights, tried after `urls`.
        manual: pages where a person with a browser gets the zip.
        vocabulary: size, kind and checksum of `vocab.txt`.
        zero_segments: the model was trained with segment ids all zero, so a pair of
            texts is given zeros as well.
        licence: SPDX identifier of the repository that released the weights.
        homepage: that repository.
        papers: paper or post that describes the model.
        pretraining: data and task of the pretraining, as far as published.
        bundled: folder inside this package that holds the weights, else None.
        notes: what a user should know before trusting the model.
    """

    name: str
    architecture: str
    config: Mapping[str, Any]
    vocabulary: Vocabulary
    licence: str
    homepage: str
    papers: tuple[str, ...]
    pretraining: str
    archive: str | None = None
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    mirrors: tuple[Mirror, ...] = ()
    manual: tuple[str, ...] = ()
    zero_segments: bool = False
    bundled: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.architecture not in BACKBONES:
            raise ValueError(
                f"Preset {self.name!r} names the architecture {self.architecture!r}; "
                f"known ones are {', '.join(BACKBONES)}."
            )
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))

    def backbone_class(self) -> Any:
        """Imports and returns the Keras class of this preset's architecture."""
        return backbone_class(self.architecture)

    @property
    def parameters(self) -> int:
        """Number of weights of the backbone that `zoo.load(name)` builds."""
        return count_parameters(self.architecture, self.config)

    @property
    def checkpoint_parameters(self) -> int:
        """Number of weights in the released file, masked-LM head included."""
        return count_parameters(self.architecture, self.config, masked_lm_head=True)

    @property
    def scores(self) -> tuple[Score, ...]:
        """Published scores, each with its source."""
        return published_scores(self.name)


def backbone_class(architecture: str) -> Any:
    """Imports and returns the Keras class of an architecture, a key of `BACKBONES`."""
    module, attribute = BACKBONES[architecture]
    return getattr(importlib.import_module(module), attribute)


def count_parameters(
    architecture: str, config: Mapping[str, Any], masked_lm_head: bool = False
) -> int:
    """Counts the weights of a backbone from its configuration, without building it.

    Args:
        architecture: a key of `BACKBONES`.
        config: constructor arguments of that backbone.
        masked_lm_head: also count the masked-LM head. RoFormerV2 and GAU-α have none
            beyond the tied embedding.

    Returns:
        The number of scalars.

    Example:

    >>> from zoo.presets import PRESETS
    >>> config = PRESETS["gau-alpha"].config
    >>> round(count_parameters("gau_alpha", config) / 1e6, 1)
    96.5
    """
    layers: int = config["num_layers"]
    hidden: int = config["hidden_dim"]
    inner: int = config["intermediate_dim"]
    vocabulary: int = config["vocabulary_size"]
    embedding: int = config.get("embedding_dim") or hidden
    total: int = (vocabulary + config["num_segments"]) * embedding
    if architecture == "gau_alpha":
        key: int = config["key_dim"]
        gate = hidden * (2 * inner + key) + 2 * key + inner * hidden
        return total + layers * gate + _projection(embedding, hidden, bias=False)
    heads: int = config["num_heads"]
    keys: int = heads * (config.get("key_dim") or hidden // heads)
    attention = 2 * hidden * keys + 2 * hidden * hidden
    feed_forward = 2 * hidden * inner
    if architecture == "roformer_v2":
        per_layer = attention + feed_forward
        return total + layers * per_layer + _projection(embedding, hidden, bias=False)
    biases = 2 * keys + 2 * hidden + inner + hidden
    total += layers * (attention + feed_forward + biases + 4 * hidden)
    total += 2 * embedding + _projection(embedding, hidden, bias=True)
    if architecture == "bert":
        total += config["max_sequence_length"] * embedding
    if config.get("pooler"):
        total += hidden * hidden + hidden
    if masked_lm_head:
        total += hidden * embedding + 3 * embedding + vocabulary
    return total


def _projection(embedding: int, hidden: int, bias: bool) -> int:
    if embedding == hidden:
        return 0
    return embedding * hidden + (hidden if bias else 0)
