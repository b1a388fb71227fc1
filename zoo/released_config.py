"""Constructor arguments from a released `bert_config.json` or `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG_FILES = ("bert_config.json", "config.json")

# Released key -> our argument.
KEYS = {
    "vocab_size": "vocabulary_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "attention_key_size": "key_dim",
    "embedding_size": "embedding_dim",
    "type_vocab_size": "num_segments",
    "max_position_embeddings": "max_sequence_length",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "layer_norm_eps": "epsilon",
    "pooler_activation": "pooler",
}
# gelu is the exact one, by erf, in all of these releases.
ACTIVATIONS = {"swish": "silu", "gelu": "gelu", "relu": "relu", "silu": "silu"}


class ConfigError(ValueError):
    """A released config file is missing, unreadable or at odds with the weights."""


def find_config(folder: Path) -> Path | None:
    """The config file of a released folder, or `None`."""
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return folder / name
    return None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ConfigError: it is not JSON, or not an object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} must hold a JSON object with the model's sizes.")
    return config


def constructor_arguments(released: Mapping[str, Any], accepted: set[str]) -> dict:
    """Our constructor's words for a released config.

    Args:
        released: the JSON object; keys that say nothing about the network are ignored.
        accepted: arguments of the constructor.

    Returns:
        Arguments with the values of the file.

    Raises:
        ConfigError: an activation nobody of these families uses.
    """
    arguments = {
        ours: released[key]
        for key, ours in KEYS.items()
        if key in released and ours in accepted and released[key] is not None
    }
    if "activation" in arguments:
        name = arguments["activation"]
        if name not in ACTIVATIONS:
            raise ConfigError(
                f"hidden_act={name!r} is none of {', '.join(ACTIVATIONS)}. Pass "
                "activation=... to say what is meant."
            )
        arguments["activation"] = ACTIVATIONS[name]
    if released.get("is_decoder") and "attention" in accepted:
        # RoFormer-Sim's mirrors say is_decoder and mean UniLM's prefix attention.
        is_sim = "pooler_activation" in released
        arguments["attention"] = "prefix" if is_sim else "causal"
    return arguments


def released_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The released config of a backbone's config: `constructor_arguments` backwards."""
    activations = {"silu": "swish"}
    released = {}
    for key, ours in KEYS.items():
        value = config.get(ours)
        if value is None or ours == "epsilon":
            continue
        if ours == "activation":
            value = activations.get(value, value)
        if ours == "embedding_dim" and value == config.get("hidden_dim"):
            continue
        if key == "layer_norm_eps":
            continue
        released[key] = value
    return released
