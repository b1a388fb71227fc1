"""KerasHub's own RoFormerV2 in ours."""

import json
import os
from pathlib import Path

import keras
import keras_hub
import numpy as np

from bert4keras3.hub.backbone import Backbone
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.models.roformer_v2 import RoFormerV2Backbone
from bert4keras3.models.weight_map import expand

LAYER = "transformer_layer_{}/"
# Ours, and KerasHub's, by the paths of the variables; see `models.weight_map`.
TABLE = (
    ("token_embedding/embeddings", "token_embedding/embeddings"),
    ("segment_embedding/embeddings", "segment_embedding/embeddings"),
    *(
        (f"{LAYER}{ours}/kernel", f"{LAYER}{theirs}/kernel")
        for ours, theirs in (
            ("attention/query_dense", "attention_layer/q_dense_layer"),
            ("attention/key_dense", "attention_layer/k_dense_layer"),
            ("attention/value_dense", "attention_layer/v_dense_layer"),
            ("attention/output_dense", "attention_layer/o_dense_layer"),
            ("feed_forward/intermediate_dense", "feedforward_intermediate_dense"),
            ("feed_forward/output_dense", "feedforward_output_dense"),
        )
    ),
)
# KerasHub's norms have a trained scale, which RoFormerV2 has not.
SCALES = (
    "embeddings_layer_norm/scale",
    f"{LAYER}attention_norm/scale",
    f"{LAYER}feedforward_norm/scale",
)


def load_roformer_v2(source, **overrides):
    """A RoFormerV2 of KerasHub, with its weights, as a backbone of the hub over ours.

    Hidden states are equal where no token is padding. With padding ours are those of
    the text alone; KerasHub 0.32 lets padding in on TensorFlow and JAX, takes id 0 for
    padding whatever the mask says, and rounds positions under bfloat16.

    Args:
        source: a `keras_hub.models.RoformerV2Backbone`, or the folder of a preset that
            was saved from one or from a task with one.
        **overrides: arguments of `RoFormerV2Backbone`, for example `dtype` or
            `attention`.

    Returns:
        A `bert4keras3.hub.Backbone`; its `unwrap()` is a `RoFormerV2Backbone`.

    Raises:
        FileNotFoundError: the folder is not a preset.
        TypeError: another model of KerasHub.
        ValueError: weights that are missing, too many or of another shape than the
            config says; or biases or trained norm scales, which RoFormerV2 has not.

    Example:

    >>> theirs = keras_hub.models.RoformerV2Backbone(100, 2, 4, 32, 64, head_size=8)
    >>> ours = load_roformer_v2(theirs)
    >>> inputs = {name: np.ones((1, 5), "int32") for name in theirs.input}
    >>> bool(np.allclose(ours(inputs), theirs(inputs), atol=1e-5))
    True
    """
    if isinstance(source, str | os.PathLike):
        source = _read_preset(Path(source))
    _check_class(source)
    model = RoFormerV2Backbone(**{**_arguments(source), **overrides})
    _copy_weights(source, model)
    return Backbone(model)


def _read_preset(folder):
    """KerasHub's model of a preset, every weight of it read."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no config.json, so it is not a preset. Pass the folder "
            "that `save_to_preset` wrote."
        )
    model = keras_hub.models.Backbone.from_preset(str(folder), load_weights=False)
    _check_class(model)
    files = [folder / name for name in ("model.weights.h5", "model.weights.json")]
    found = [path for path in files if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no weights: neither {files[0].name} nor {files[1].name}. "
            "Copy the whole folder that `save_to_preset` wrote."
        )
    _check_count(folder, model)
    try:
        model.load_weights(found[0])
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{found[0]} does not hold the weights that config.json describes, or is "
            f"damaged. Save the preset again. Keras says: {error}"
        ) from error
    return model


def _check_class(model):
    if not isinstance(model, keras_hub.models.RoformerV2Backbone):
        raise TypeError(
            "Expected a keras_hub.models.RoformerV2Backbone or the folder of its "
            f"preset. Received: {type(model).__name__}."
        )


def _check_count(folder, model):
    """Refuse a file with more weights than its config, which Keras leaves unread."""
    metadata = folder / "metadata.json"
    if not metadata.is_file():
        return
    saved = json.loads(metadata.read_text(encoding="utf-8")).get("parameter_count")
    if saved is not None and saved != model.count_params():
        raise ValueError(
            f"{folder} was saved with {saved} weights, and its config.json describes "
            f"{model.count_params()}. The sizes in config.json must be those of the "
            "saved model."
        )


def _arguments(theirs):
    """Arguments of our backbone that give KerasHub's network."""
    if theirs.head_size * theirs.num_heads != theirs.hidden_dim:
        raise ValueError(
            "RoFormerV2 has hidden_dim = num_heads * head_size. Received hidden_dim="
            f"{theirs.hidden_dim}, num_heads={theirs.num_heads}, head_size="
            f"{theirs.head_size}."
        )
    return {
        "vocabulary_size": theirs.vocabulary_size,
        "num_layers": theirs.num_layers,
        "num_heads": theirs.num_heads,
        "hidden_dim": theirs.hidden_dim,
        "intermediate_dim": theirs.intermediate_dim,
        "num_segments": theirs.num_segments,
        "dropout": theirs.dropout,
        "activation": keras.activations.serialize(theirs.activation),
        "attention_dropout": 0.0,
        "rotary_embedding": RotaryEmbedding(theirs.max_wavelength),
        "epsilon": keras.config.epsilon(),
        "dtype": theirs.dtype_policy,
    }


def _copy_weights(theirs, ours):
    sources = {weight.path: weight for weight in theirs.weights}
    targets = {weight.path: weight for weight in ours.weights}
    scales = [path.format(i) for path in SCALES for i in range(ours.num_layers)]
    for path in dict.fromkeys(scales):
        values = keras.ops.convert_to_numpy(_take(sources, path))
        if not np.all(values == 1.0):
            raise ValueError(
                f"{path} is not all ones. The norms of RoFormerV2 have no scale, so a "
                "KerasHub model that has trained its own cannot be the same network."
            )
    for row in expand(TABLE, ours.num_layers):
        value, target = _take(sources, row.released), targets.pop(row.ours)
        if tuple(value.shape) != tuple(target.shape):
            raise ValueError(
                f"{row.released} has the shape {tuple(value.shape)}; "
                f"{tuple(target.shape)} was expected for {row.ours}."
            )
        target.assign(value)
    if sources:
        raise ValueError(
            "The model has weights that RoFormerV2 has no place for: "
            f"{sorted(sources)}. It must be built with use_bias=False and not be "
            "quantized."
        )
    if targets:
        raise ValueError(f"KerasHub's model has nothing for {sorted(targets)}.")


def _take(sources, path):
    if path not in sources:
        raise ValueError(
            f"The model lacks the weight {path}. It has {sorted(sources)}."
        )
    return sources.pop(path)
