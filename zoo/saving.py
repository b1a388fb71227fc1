"""Writing models back to the layouts they were released in."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from zoo.checkpoints import write_safetensors, write_tf1
from zoo.preset import BACKBONES
from zoo.released_config import released_arguments
from zoo.weights import collect

FORMATS = ("tf1", "safetensors", "keras")


def save(
    model: Any,
    target: str | os.PathLike[str],
    *,
    format: str = "tf1",
    dtype: str | None = None,
    tokenizer: Any = None,
) -> Path:
    """Write a model in a released layout.

    `"tf1"` makes a folder as the official releases have it (`bert_config.json`,
    `bert_model.ckpt.*`, `checkpoint`, and `vocab.txt` if a tokenizer is at hand), which
    bert4keras reads; `"safetensors"` one as the mirrors have it (`config.json`,
    `model.safetensors`), which torch code reads; `"keras"` a single `.keras` file of
    the whole model. The target appears complete or not at all.

    Args:
        model: a backbone or a task of ours.
        target: the folder or `.keras` file to make; it must not exist.
        format: `"tf1"`, `"safetensors"` or `"keras"`.
        dtype: store the weights in this dtype, for example `"float16"`; for the first
            two formats.
        tokenizer: a `Tokenizer` whose vocabulary to write beside the weights; by
            default that of the task's preprocessor.

    Returns:
        The target.

    Raises:
        ValueError: unknown format, or a model that the layout cannot hold.
        FileExistsError: the target exists already.
    """
    target = Path(target)
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}. Known: {', '.join(FORMATS)}.")
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already. Remove it or choose another.")
    backbone = getattr(model, "backbone", model)
    architecture = _architecture(backbone)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        if format == "keras":
            if target.suffix != ".keras":
                raise ValueError(f"A .keras file must be called so, not {target.name}.")
            if dtype is not None:
                raise ValueError("A .keras file keeps the model's own dtype.")
            partial = partial.with_suffix(".keras")
            model.save(partial)
        else:
            partial.mkdir()
            _write_folder(model, backbone, architecture, partial, format, dtype)
            tokenizer = tokenizer or _tokenizer(model)
            if tokenizer is not None:
                tokenizer.save(partial)
        os.replace(partial, target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
    return target


def _architecture(backbone: Any) -> str:
    for architecture, (module, name) in BACKBONES.items():
        if (type(backbone).__module__, type(backbone).__name__) == (module, name):
            return architecture
    raise ValueError(
        f"{type(backbone).__name__} has no released layout. The zoo writes "
        f"{', '.join(BACKBONES)}."
    )


def _write_folder(
    model: Any,
    backbone: Any,
    architecture: str,
    folder: Path,
    format: str,
    dtype: str | None,
) -> None:
    from bert4keras3.models.weight_map import expand

    layout = "tf1" if format == "tf1" else "transformers"
    rows = expand(type(backbone).weight_maps[layout], backbone.num_layers)
    tensors = collect(model, rows, dtype)
    released = released_arguments(backbone.get_config())
    if format == "tf1":
        write_tf1(folder / "bert_model.ckpt", tensors)
        _write_json(folder / "bert_config.json", released)
    else:
        write_safetensors(
            folder / "model.safetensors", tensors, metadata={"format": "pt"}
        )
        _write_json(
            folder / "config.json", {**released, **_mirror_keys(backbone, architecture)}
        )


def _mirror_keys(backbone: Any, architecture: str) -> dict[str, Any]:
    """What the torch code of the mirrors reads besides the sizes."""
    by_architecture: dict[str, dict[str, Any]] = {
        "gau_alpha": {
            "model_type": "gau_alpha",
            "normalization": "softmax_plus",
            "attention_scale": True,
            "use_bias": False,
        },
        "roformer": {"model_type": "roformer", "rotary_value": False},
        "roformer_v2": {
            "model_type": "roformer",
            "rotary_value": False,
            "norm_type": "rms_norm",
            "use_bias": False,
        },
        "bert": {"model_type": "bert"},
    }
    keys = dict(by_architecture[architecture])
    config = backbone.get_config()
    keys["layer_norm_eps"] = config["epsilon"]
    if config["attention"] != "bidirectional":
        keys["is_decoder"] = True
    return {**keys, "pad_token_id": 0, "max_position_embeddings": 512} | {
        key: value
        for key, value in released_arguments(config).items()
        if key == "max_position_embeddings"
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(dict(sorted(value.items())), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _tokenizer(model: Any) -> Any:
    preprocessor = getattr(model, "preprocessor", None)
    return getattr(preprocessor, "tokenizer", None)
