"""Looking a folder of weights over, from its checksums to a run of the model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoints import Checkpoint, TensorInfo, open_checkpoint
from zoo.checksums import check_checksums, sha256
from zoo.detection import Match, detect
from zoo.loading import load
from zoo.presets import PRESETS
from zoo.source import resolve

LENGTH = 24


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    finding: str


@dataclass(frozen=True)
class VariableGroup:
    """Tensors whose names differ in the layer's number only.

    Attributes:
        name: the name, with `{}` for the number.
        count: how many there are.
        info: their shape and dtype.
    """

    name: str
    count: int
    info: TensorInfo


@dataclass
class Report:
    """What `verify` found.

    Attributes:
        path: what was looked at.
        format: format of the checkpoint, `""` if it could not be opened.
        files: name, bytes and SHA-256 of the checkpoint's files and the vocabulary.
        variables: the tensors, grouped by layer.
        architecture: architecture and layout found from the variables, or `""`.
        parameters: how many numbers the checkpoint holds.
        checks: everything that was checked, in order; after a check that leaves
            nothing to look at, the rest is not there.
    """

    path: Path
    format: str = ""
    files: list[tuple[str, int, str]] = field(default_factory=list)
    variables: list[VariableGroup] = field(default_factory=list)
    architecture: str = ""
    parameters: int = 0
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Runs one check; what it raises is a finding, not the end."""
        try:
            self.checks.append(Check(name, True, check()))
        except Exception as error:
            finding = str(error) or type(error).__name__
            self.checks.append(Check(name, False, finding))
        return self.checks[-1].passed


def verify(path: str | os.PathLike[str]) -> Report:
    """Reloads weights on disk and reports what they are and whether they are whole.

    Checked are: the recorded checksums, the checksums inside the format, that every
    number is finite, that the variables are those of one architecture, that the
    vocabulary fits the embedding, that a model loads strictly, and that it gives
    finite numbers that padding does not change.

    Args:
        path: a released or converted folder, a zip, or a checkpoint file; a released
            model's name stands for its folder in the cache.

    Returns:
        A `Report`; look at `passed` and `checks`.

    Raises:
        FileNotFoundError: there is nothing at the path.

    Example:

    >>> verify("gau-alpha-tiny").passed
    True
    """
    report = Report(Path(path))
    folder = Path(path)
    if folder.is_dir():
        # Before anything else: resolving a folder with changed files is an error.
        if not report.run("recorded checksums", lambda: _recorded(folder)):
            return report
    source = resolve(path).fetched()
    assert source.path is not None and source.folder is not None
    report.path, folder = source.path, source.folder
    if source.path.suffix == ".keras":
        report.format = "keras"
        report.files = list(_files([source.path]))
        report.run("model", lambda: _loads_and_runs(source.path, report))
        return report
    try:
        checkpoint = open_checkpoint(source.path)
    except ValueError as error:
        report.checks.append(Check("checkpoint", False, str(error)))
        return report
    with checkpoint:
        report.format = checkpoint.format
        vocabulary = folder / "vocab.txt"
        more = [vocabulary] if vocabulary.is_file() else []
        report.files = list(_files([*checkpoint.files, *more]))
        report.variables = list(_groups(checkpoint))
        report.parameters = sum(info.size for info in checkpoint.variables.values())
        report.run("stored checksums", lambda: _stored(checkpoint))
        report.run("numbers", lambda: _finite(checkpoint))
        if not report.run("variables", lambda: _variables(checkpoint, report)):
            return report
    report.run("vocabulary", lambda: _vocabulary(vocabulary))
    report.run("model", lambda: _loads_and_runs(path, report))
    return report


# --- the checks: each returns what it found, or raises ------------------------------


def _recorded(folder: Path) -> str:
    if check_checksums(folder):
        return "every file is as it was recorded"
    return "none were recorded beside the files"


def _stored(checkpoint: Checkpoint) -> str:
    if checkpoint.verify():
        return f"all {len(checkpoint.variables)} agree"
    return f"{checkpoint.format} stores none; lengths and structure agree"


def _finite(checkpoint: Checkpoint) -> str:
    for name, array in checkpoint.items():
        if array.dtype.kind in "iub":
            continue
        wrong = array.size - int(np.isfinite(array.astype("float32")).sum())
        if wrong:
            raise ValueError(f"{name} holds {wrong} numbers that are not finite.")
    return "all finite"


def _variables(checkpoint: Checkpoint, report: Report) -> str:
    match: Match = detect(checkpoint)
    report.architecture = f"{match.architecture} ({match.layout} names)"
    finding = f"{match.architecture} with {match.num_layers} layers, nothing missing"
    if match.dropped:
        finding += f"; not used: {', '.join(match.dropped)}"
    return finding


def _vocabulary(path: Path) -> str:
    from bert4keras3.text import read_vocabulary

    if not path.is_file():
        return "no vocab.txt: loads as a model, has no tokenizer"
    size, digest = len(read_vocabulary(path)), sha256(path)
    for preset in PRESETS.values():
        if preset.vocabulary.sha256 == digest:
            return f"{size} tokens, the vocabulary of {preset.name}"
    return f"{size} tokens"


def _loads_and_runs(path: Any, report: Report) -> str:
    import keras

    model = load(path)
    backbone = getattr(model, "backbone", model)
    if not report.architecture:
        report.architecture = type(backbone).__name__
        report.parameters = model.count_params()
    ids = np.random.default_rng(0).integers(1, backbone.vocabulary_size, (2, LENGTH))
    padding = np.ones_like(ids)
    padding[:, LENGTH // 2 :] = 0
    outputs = []
    for content in (0, 1):
        token_ids = np.where(padding, ids, content).astype("int32")
        output = backbone(
            {
                "token_ids": token_ids,
                "segment_ids": np.zeros_like(token_ids),
                "padding_mask": padding,
            },
            training=False,
        )
        states = output["hidden_states"] if isinstance(output, dict) else output
        states = keras.ops.convert_to_numpy(states)[:, : LENGTH // 2]
        outputs.append(states.astype("float32"))
    if not np.isfinite(outputs[0]).all():
        raise ValueError("The model loads, but its hidden states are not finite.")
    difference = float(np.abs(outputs[0] - outputs[1]).max())
    if difference > 1e-3:
        raise ValueError(
            f"The content of padding changes real positions by {difference:.1e}."
        )
    return (
        f"{type(model).__name__} loads with {model.count_params():,} parameters and "
        "gives finite numbers"
    )


# --- what there is ------------------------------------------------------------------


def _files(paths: list[Path]) -> Iterator[tuple[str, int, str]]:
    for path in paths:
        yield path.name, path.stat().st_size, sha256(path)


def _groups(checkpoint: Checkpoint) -> Iterator[VariableGroup]:
    groups: dict[tuple[str, TensorInfo], int] = {}
    for name, info in checkpoint.variables.items():
        # Only a number between separators counts layers: not the 2 of "layer2d".
        key = re.sub(r"(?<=[._/-])\d+(?=[._/-])", "{}", name), info
        groups[key] = groups.get(key, 0) + 1
    for (name, info), count in groups.items():
        yield VariableGroup(name, count, info)
