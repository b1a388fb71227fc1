"""`zoo.load` and `zoo.load_tokenizer`."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.checkpoints import open_checkpoint
from zoo.detection import Match, detect, match_architecture
from zoo.preset import backbone_class
from zoo.released_config import (
    ConfigError,
    constructor_arguments,
    find_config,
    read_json,
)
from zoo.sizes import check_sizes, sizes_of_checkpoint
from zoo.source import Source, resolve
from zoo.vocabularies import check_vocabulary_size, tokenizer_of
from zoo.vocabulary_edits import TOKEN_WEIGHTS, vocabulary_edit
from zoo.weights import assign


def load(
    name_or_path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = "released",
    task: str | None = None,
    preprocessor: Any = "default",
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Any] | None = None,
    dtype: Any = None,
    **overrides: Any,
) -> Any:
    """Load a model with its released weights.

    Args:
        name_or_path: a name of `zoo.list_models()`, or a released folder, a zip, a
            checkpoint file, the prefix of a TF1 checkpoint, a mirror's folder, or a
            `.keras` file of ours.
        weights: `"released"`; `None` for random ones; or a path, as above or a
            `.weights.h5` file of ours, to be put into the named model.
        task: name of a head, for example `"masked_lm"`; `None` for the backbone.
        preprocessor: of the task: `"default"` makes it from the model's vocabulary if
            there is one, and fetches it for `weights=None` if an argument of the
            preprocessor was passed; `None` for a task that takes prepared token ids.
        keep_tokens: ids of the vocabulary to keep, in their new order.
        compound_tokens: tokens to add, each a list of kept ids to be averaged, or a
            pair of such a list and averaging weights.
        dtype: dtype policy, for example `"mixed_bfloat16"`.
        **overrides: arguments of the backbone, of the task or of its preprocessor, such
            as `attention="causal"`; with `weights=None` also sizes.

    Returns:
        A `keras.Model`: a backbone, which maps a dict of `token_ids`, `segment_ids` and
        `padding_mask` to hidden states, or a task.

    Raises:
        UnknownModelError: no such name; the message gives the nearest.
        FileNotFoundError: no such path, or weights that cannot be fetched.
        TypeError: an override that nothing takes.
        CheckpointError: weights that do not fit: damaged, incomplete, of another
            architecture or size, or with variables nobody knows.
        ConfigError: a config file at odds with the weights.

    Example:

    >>> model = load("gau-alpha", weights=None, num_layers=2)
    >>> model.num_layers
    2
    """
    source = resolve(name_or_path)
    if source.path is not None and source.path.suffix == ".keras":
        return _load_keras_file(source.path, locals())
    if weights is None:
        architecture, config = _config_without_weights(source)
        match, opened = None, None
    else:
        opened, own_weights = _weights_source(source, weights)
        if own_weights:
            architecture, config = _config_without_weights(source)
            match = None
        else:
            match, architecture, config = _config_of(source, opened)
            if weights == "released":
                source = opened
    model_class = backbone_class(architecture)
    if match is not None and opened is not None and opened.folder is not None:
        # Before the model is built: this costs a glance at a text file.
        check_vocabulary_size(opened.folder, config["vocabulary_size"])

    task_class = _task_class(task)
    backbone_arguments, task_arguments, preprocessor_arguments = _share_out(
        overrides, model_class, task_class
    )
    config.update(backbone_arguments)
    edit: Callable[[Any], Any] | None = None
    if keep_tokens is not None or compound_tokens is not None:
        config["vocabulary_size"], edit = vocabulary_edit(
            keep_tokens, compound_tokens, config["vocabulary_size"]
        )
    check_sizes(config, model_class)

    backbone = _build(model_class, config, dtype, empty=opened is not None)
    model = backbone
    if task_class is not None:
        if preprocessor == "default":
            preprocessor = _preprocessor(
                task_class, source, keep_tokens, compound_tokens, preprocessor_arguments
            )
        elif preprocessor_arguments:
            raise TypeError(
                f"{sorted(preprocessor_arguments)} belong to the task's default "
                "preprocessor, but another one was passed."
            )
        model = task_class(backbone, preprocessor, **task_arguments)
    if opened is None:
        return model
    assert opened.path is not None
    if match is None:
        _load_own_weights(model, opened.path)
        return model
    with open_checkpoint(opened.path) as checkpoint:
        assign(
            model,
            checkpoint,
            match.rows,
            new_weights=_new_weights(model, backbone),
            edits={path: edit for path in TOKEN_WEIGHTS} if edit else None,
        )
    return model


def load_tokenizer(name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Load the tokenizer of a model.

    Args:
        name_or_path: a name of `zoo.list_models()`, or a folder or zip that holds
            `vocab.txt`.
        **kwargs: arguments of `bert4keras3.text.Tokenizer`, for example
            `simplified=True`, after which `tokenizer.keep_tokens` is what `zoo.load`
            takes.

    Returns:
        A `Tokenizer`. Word-level vocabularies get `pre_tokenize="jieba"`, and models
        trained with zero segments for pairs give zeros.

    Raises:
        FileNotFoundError: the folder holds no `vocab.txt`.
    """
    return tokenizer_of(resolve(name_or_path).fetched(), **kwargs)


def _weights_source(source: Source, weights: Any) -> tuple[Source, bool]:
    """Where the weights are, and whether they are in our own format."""
    if weights == "released":
        return source.fetched(), False
    path = Path(os.fspath(weights))
    if path.name.endswith(".weights.h5"):
        if not path.is_file():
            raise FileNotFoundError(f"There is no weights file {path}.")
        return Source(source.preset, path), True
    return resolve(weights).fetched(), False


def _config_without_weights(source: Source) -> tuple[str, dict[str, Any]]:
    if source.preset is not None:
        return source.preset.architecture, dict(source.preset.config)
    assert source.path is not None
    match, architecture, config = _config_of(source, source)
    return architecture, config


def _config_of(source: Source, opened: Source) -> tuple[Match, str, dict[str, Any]]:
    """Architecture and config of weights on disk: sizes from the weights themselves."""
    assert opened.path is not None
    with open_checkpoint(opened.path) as checkpoint:
        if source.preset is not None:
            match = match_architecture(checkpoint, source.preset.architecture)
        else:
            match = detect(checkpoint)
        architecture = match.architecture
        model_class = backbone_class(architecture)
        config: dict[str, Any] = {}
        if source.preset is not None:
            config.update(source.preset.config)
        folders = [place.folder for place in (opened, source) if place.folder]
        found = [file for file in map(find_config, folders) if file is not None]
        config_file = found[0] if found else None
        if config_file is not None:
            accepted = set(inspect.signature(model_class).parameters)
            said = constructor_arguments(read_json(config_file), accepted)
            if source.preset is not None:
                # The row knows more than the file (attention, pooler, epsilon).
                said = {key: said[key] for key in said if key not in config}
            config.update(said)
        sizes = sizes_of_checkpoint(match, checkpoint, config, config_file or source)
        return match, architecture, {**config, **sizes}


def _build(model_class: Any, config: dict[str, Any], dtype: Any, empty: bool) -> Any:
    from bert4keras3.layers.initializer import initializers_skipped

    if not empty:
        return model_class(**config, dtype=dtype)
    with initializers_skipped():
        return model_class(**config, dtype=dtype)


def _task_class(task: str | None) -> Any:
    if task is None:
        return None
    from bert4keras3 import tasks

    return tasks.get(task)


def _share_out(
    overrides: dict[str, Any], model_class: Any, task_class: Any
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Give each override to whom it belongs; refuse what nobody takes."""
    takers = [model_class, task_class, getattr(task_class, "preprocessor_class", None)]
    shares: list[dict[str, Any]] = [{}, {}, {}]
    known = [_parameters(taker) for taker in takers]
    for key, value in overrides.items():
        for share, names in zip(shares, known, strict=True):
            if key in names:
                share[key] = value
                break
        else:
            everything = sorted(set().union(*known))
            near = difflib.get_close_matches(key, everything, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"{model_class.__name__} takes no argument {key!r}.{hint} It can be: "
                f"{', '.join(everything)}."
            )
    return shares[0], shares[1], shares[2]


def _parameters(taker: Any) -> set[str]:
    if taker is None:
        return set()
    excluded = {"self", "kwargs", "args", "dtype", "backbone", "preprocessor"}
    return set(inspect.signature(taker).parameters) - excluded - {"tokenizer"}


def _preprocessor(
    task_class: Any,
    source: Source,
    keep_tokens: Sequence[int] | None,
    compound_tokens: Sequence[Any] | None,
    arguments: dict[str, Any],
) -> Any:
    """The task's own preprocessor, or `None` where there is no vocabulary at hand."""
    if task_class.preprocessor_class is None or compound_tokens is not None:
        return None
    if source.path is None and arguments:
        # Random weights, but arguments that make no sense without a vocabulary.
        source = source.fetched()
    folder = source.folder
    if folder is None or not (folder / "vocab.txt").is_file():
        if arguments:
            raise FileNotFoundError(
                f"{sorted(arguments)} are for the preprocessor, which needs the "
                "model's vocab.txt, and there is none at hand."
            )
        return None
    tokenizer = tokenizer_of(source, keep_tokens=keep_tokens)
    return task_class.preprocessor_class(tokenizer, **arguments)


def _new_weights(model: Any, backbone: Any) -> frozenset[str]:
    """Weights that no release has and that were asked for: they keep their start.

    Those of a task's head are random, those of a position scheme what its paper says.
    """
    new: frozenset[str] = backbone.scheme_weights
    if model is backbone or model.has_released_head:
        return new
    own = {variable.path for variable in backbone.weights}
    return new | {v.path for v in model.weights if v.path not in own}


def _load_keras_file(path: Path, arguments: dict[str, Any]) -> Any:
    """A model saved by us, whole. It cannot be changed while it is loaded."""
    import keras

    from bert4keras3 import tasks
    from zoo.preset import BACKBONES

    defaults: dict[str, Any] = {
        "weights": "released",
        "task": None,
        "preprocessor": "default",
        "keep_tokens": None,
        "compound_tokens": None,
        "dtype": None,
        "overrides": {},
    }
    changed = [key for key, value in defaults.items() if arguments[key] != value]
    if changed:
        raise TypeError(
            f"{path.name} holds a whole model, task and all; {', '.join(changed)} "
            "cannot be chosen while loading it."
        )
    # Importing the classes registers them, so nothing is unpickled.
    for architecture in BACKBONES:
        backbone_class(architecture)
    for name in tasks.TASKS:
        tasks.get(name)
    return keras.saving.load_model(path)


def _load_own_weights(model: Any, path: Path) -> None:
    try:
        model.load_weights(path)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{path} does not fit the model: {error} Build the model with the sizes "
            "and the task it was saved with."
        ) from error
