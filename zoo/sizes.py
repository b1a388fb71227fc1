"""Sizes of a model as its weights tell them, and checks of what was asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from zoo.checkpoints import Checkpoint
from zoo.detection import Match
from zoo.released_config import ConfigError

# Our path -> the arguments that its shape gives, axis by axis.
SHAPES = {
    "token_embedding/embeddings": ("vocabulary_size", "embedding_dim"),
    "segment_embedding/embeddings": ("num_segments", None),
    "position_embedding/embeddings": ("max_sequence_length", None),
    "gau_0/query_scale/scale": ("key_dim",),
    "gau_0/output_dense/kernel": ("intermediate_dim", "hidden_dim"),
    "transformer_layer_0/attention/query_dense/kernel": ("hidden_dim", "query_width"),
    "transformer_layer_0/feed_forward/intermediate_dense/kernel": (
        None,
        "intermediate_dim",
    ),
}


def sizes_of_checkpoint(
    match: Match, checkpoint: Checkpoint, config: Mapping[str, Any], said_by: object
) -> dict[str, int]:
    """Constructor arguments that follow from the shapes of the weights.

    Args:
        match: the architecture and layout of the checkpoint.
        checkpoint: the open checkpoint.
        config: what the config says; `num_heads` is needed, for no weight shows it.
        said_by: where the config comes from, for the error text.

    Returns:
        Sizes by argument name.

    Raises:
        ConfigError: the config says other sizes, or the number of heads is unknown.
    """
    sizes = {"num_layers": match.num_layers}
    for row in match.rows:
        info = checkpoint.variables.get(row.released)
        if info is None or row.ours not in SHAPES:
            continue
        shape = info.shape[1:] if row.row is not None else info.shape
        shape = shape[::-1] if row.transpose else shape
        for name, size in zip(SHAPES[row.ours], shape, strict=True):
            if name is not None:
                sizes[name] = size
    if sizes["embedding_dim"] == sizes["hidden_dim"]:
        # Without a projection there is no such argument to set.
        del sizes["embedding_dim"]
    query_width = sizes.pop("query_width", None)
    _compare(sizes, config, checkpoint, said_by)
    if query_width is not None:
        _add_key_dim(sizes, query_width, config, checkpoint)
        _compare(sizes, config, checkpoint, said_by)
    return sizes


def _compare(
    sizes: Mapping[str, int],
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    said_by: object,
) -> None:
    for key, value in sizes.items():
        if config.get(key) is not None and config[key] != value:
            raise ConfigError(
                f"{said_by}: {key} is {config[key]}, but the weights in "
                f"{checkpoint.path} have {value}. Config and weights belong to "
                "different models."
            )


def _add_key_dim(
    sizes: dict[str, int],
    query_width: int,
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
) -> None:
    num_heads = config.get("num_heads")
    if num_heads is None:
        raise ConfigError(
            f"The number of attention heads cannot be told from {checkpoint.path}: no "
            "weight shows it. Put the released bert_config.json (or config.json) "
            "beside the checkpoint."
        )
    if num_heads < 1 or query_width % num_heads or sizes["hidden_dim"] % num_heads:
        raise ConfigError(
            f"num_heads={num_heads} does not divide the width of the queries "
            f"({query_width}) and of the hidden states ({sizes['hidden_dim']}) in "
            f"{checkpoint.path}."
        )
    if query_width != sizes["hidden_dim"]:
        sizes["key_dim"] = query_width // num_heads


def check_sizes(config: Mapping[str, Any], model_class: Any) -> None:
    """Refuse a config that cannot be built, before anything is built.

    Raises:
        ConfigError: a required argument is missing, or a size is not positive.
    """
    for name, parameter in inspect.signature(model_class).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.default is parameter.empty and name not in config:
            raise ConfigError(
                f"{model_class.__name__} needs {name}, and neither the config nor the "
                "call gives it."
            )
    for name, value in config.items():
        is_size = name.startswith("num_") or name.endswith(("_size", "_dim"))
        if is_size and value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name} must be a positive integer. Received {value!r}.")
