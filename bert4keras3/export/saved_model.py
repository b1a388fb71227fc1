"""A SavedModel that takes raw text, for TF Serving and all that reads its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.text.tokenizer_config import tokenizer_config

__all__ = ["export_saved_model"]


def export_saved_model(
    model: Any,
    path: str | os.PathLike[str],
    tokenizer: Tokenizer | None = None,
    pairs: bool = False,
    warm_up: Sequence[str] = (),
) -> Path:
    """Write a model as a SavedModel with named signatures.

    The graph holds the tokenizer, made of core TensorFlow operations, so that whoever
    runs it needs TensorFlow's runtime alone: TF Serving, the C API, Go, Java, tfjs.
    Batches and lengths are free, outputs are float32, each weight is stored once.

    | signature | takes | gives |
    |---|---|---|
    | `serving_default` | text (two for pairs) | what the task is for |
    | `tokenized` | `token_ids`, `segment_ids`, `padding_mask`, ... | the outputs |
    | `embeddings` | text | `mean` and `first`, `(B, hidden_dim)` |
    | `tokens` | text | `token_ids`, `starts`, `ends`, `(B, T)` |

    `assets.extra` holds `vocab.txt`, `labels.txt` and `signatures.json`.

    Args:
        model: a task or a backbone. On JAX and PyTorch another process, on TensorFlow,
            makes the same files of it, so they need no more than those of TensorFlow.
        path: the folder of the version, as `"serving/tnews/1"`. It appears whole or not
            at all.
        tokenizer: for a backbone, or instead of that of the task; without one there is
            `tokenized` alone.
        pairs: whether `serving_default` of a classifier or a backbone takes two texts.
        warm_up: texts that TF Serving shall try before it answers requests; see
            `export.warm_up`.

    Returns:
        The path.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError: a tokenizer that has no form in a graph.
        RuntimeError: the other process could not load the model, for example one with
            layers of your own in no module that it can import.

    Example:

    >>> import tensorflow as tf, zoo
    >>> model = zoo.load("gau-alpha-tiny", task="text_classifier", num_classes=2)
    >>> folder = export_saved_model(model, "serving/mood/1")
    >>> served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    >>> served(text=tf.constant(["今天天气很好"]))["probabilities"].shape[1]
    2
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(
            f"{path} exists, and a version is never changed. Export to the next "
            f"number, for example {path.parent / _next_version(path)}."
        )
    if tokenizer is None and getattr(model, "preprocessor", None) is not None:
        tokenizer = model.preprocessor.tokenizer
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that is no number, which TF Serving does not look at.
    partial = path.parent / f".partial-{path.name}-{os.getpid()}"
    try:
        if keras.backend.backend() == "tensorflow":
            write_saved_model(model, partial, tokenizer, pairs)
        else:
            write_in_another_process(model, partial, tokenizer, pairs)
        if warm_up:
            _add_warm_up(partial, path, warm_up)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _next_version(path: Path) -> str:
    taken = [int(each.name) for each in path.parent.iterdir() if each.name.isdigit()]
    return str(max(taken, default=0) + 1)


def _add_warm_up(partial: Path, path: Path, texts: Sequence[str]) -> None:
    import tensorflow as tf

    from bert4keras3.export.warm_up import write_warm_up

    described = (partial / "assets.extra" / "signatures.json").read_text("utf-8")
    inputs = json.loads(described).get("serving_default", {}).get("inputs", {})
    if not inputs:
        raise ValueError("A model without a tokenizer takes no texts to warm up with.")
    columns = [
        tf.TensorSpec(each["shape"], each["dtype"], name=name)
        for name, each in inputs.items()
    ]
    # The folder above a version has the name of the model.
    write_warm_up(partial, path.parent.name, texts, columns)


def write_saved_model(
    model: Any, folder: Path, tokenizer: Tokenizer | None, pairs: bool
) -> None:
    """Write the files of a version, on the TensorFlow backend."""
    from bert4keras3.export.signatures import signatures_of

    answers = signatures_of(model)(model, tokenizer, pairs)
    signatures = answers.signatures()
    archive = keras.export.ExportArchive()
    if answers.tokenizer is not None:
        archive.track(answers.tokenizer)
    described = {}
    for name, (function, specs) in signatures.items():
        endpoint = archive.add_endpoint(name, function, input_signature=list(specs))
        outputs = endpoint.get_concrete_function().structured_outputs
        described[name] = {
            "inputs": {spec.name: _described(spec) for spec in specs},
            "outputs": {key: _described(value) for key, value in outputs.items()},
        }
    archive.write_out(str(folder), verbose=False)
    extra = folder / "assets.extra"
    extra.mkdir()
    text = json.dumps(described, indent=1)
    (extra / "signatures.json").write_text(text + "\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save(extra)
    if names := getattr(model, "label_names", None):
        (extra / "labels.txt").write_text(
            "".join(f"{name}\n" for name in names), encoding="utf-8"
        )


def _modules(config: Any) -> set[str]:
    """The modules whose classes a serialized object names, but for Keras's."""
    if isinstance(config, list | tuple):
        return set().union(*map(_modules, config))
    if not isinstance(config, dict):
        return set()
    module = config.get("module") if "class_name" in config else None
    own = {module} if isinstance(module, str) and module != "__main__" else set()
    own -= {name for name in own if name.partition(".")[0] in ("keras", "builtins")}
    return own.union(*map(_modules, config.values()))


def _described(tensor: Any) -> dict[str, Any]:
    shape = None if tensor.shape.rank is None else tensor.shape.as_list()
    return {"dtype": tensor.dtype.name, "shape": shape}


def write_in_another_process(
    model: Any, folder: Path, tokenizer: Tokenizer | None, pairs: bool
) -> None:
    """Let a process on the TensorFlow backend do it; see `bert4keras3.export.__main__`.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as place:
        saved = Path(place) / "model.keras"
        model.save(saved)
        settings = {
            "pairs": pairs,
            "tokenizer": None if tokenizer is None else tokenizer_config(tokenizer),
            "modules": sorted(_modules(keras.saving.serialize_keras_object(model))),
        }
        given = Path(place) / "settings.json"
        given.write_text(json.dumps(settings), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "bert4keras3.export", saved, given, folder],
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-3:]
        raise RuntimeError(
            "A process on the TensorFlow backend could not export the model. Layers of "
            "your own must be registered, in a module that it can import. It said: "
            + " ".join(said)
        )
