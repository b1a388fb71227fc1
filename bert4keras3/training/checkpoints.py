"""Checkpoints of training that appear whole, are checked, and resume exactly."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4keras3.training.record_manifest import differences, file_digest

__all__ = ["Checkpoints"]

NAME = re.compile(r"step-(\d{9})")
COUNTED = re.compile(r"_\d+(?=/|$)")
STATE, NOTE = "state.safetensors", "note.json"


class Checkpoints:
    """A folder of the states of a training run, the newest few.

    A state is every variable of the model and of its optimizer, the seeds of dropout
    among them, which `save_weights` leaves out, and the number of steps done. With
    batches that depend on the number of the step alone (`pretraining_dataset`), a run
    that was killed goes on to the losses it would have had.

    A checkpoint is written beside its place, flushed to the disk, and renamed, so that
    a kill or a full disk leaves the one before. Its SHA-256 is compared on reading.

    On PyTorch, Keras draws dropout that was given no seed from PyTorch's own
    generator, which is no part of a state: there, runs with dropout go on with other
    draws.

    It holds whole arrays: for models too large for one host use
    `keras.callbacks.OrbaxCheckpoint`, which writes shards from all hosts.

    Args:
        folder: where the checkpoints go; made if it does not exist.
        settings: a dict that can be written as JSON; to go on with other settings is
            refused.
        keep: int, how many of the newest stay.

    Raises:
        ValueError: `keep` is less than 1.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> checkpoints = Checkpoints("run", settings={"learning_rate": 1e-3})
    >>> checkpoints.restore(model)
    0
    >>> _ = checkpoints.save(model, step=100)
    >>> checkpoints.restore(model), checkpoints.steps
    (100, (100,))
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: dict[str, Any] | None = None,
        keep: int = 2,
    ):
        if keep < 1:
            raise ValueError(
                f"At least one checkpoint must stay. Received keep={keep}."
            )
        self.folder = Path(folder)
        # As JSON has it, so that a tuple equals the list that is read back.
        self.settings = json.loads(json.dumps(settings or {}))
        self.keep = keep
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints, oldest first."""
        names = (NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return tuple(sorted(int(name[1]) for name in names if name))

    def save(self, model: keras.Model, step: int) -> Path:
        """Write a checkpoint, then remove those that are too many.

        Args:
            model: a compiled model.
            step: int, how many steps were done.

        Returns:
            Its folder.

        Raises:
            OSError: the disk is full or cannot be written; the older ones stay.
        """
        from safetensors.numpy import save_file

        for partial in self.folder.glob(".partial-*"):
            shutil.rmtree(partial)
        target = self.folder / f"step-{step:09}"
        partial = self.folder / f".partial-{target.name}"
        partial.mkdir()
        try:
            arrays = {
                name: np.asarray(keras.ops.convert_to_numpy(variable), order="C")
                for name, variable in _variables(model)
            }
            save_file(arrays, partial / STATE)
            note = {
                "step": step,
                "settings": self.settings,
                "sha256": file_digest(partial / STATE),
                "backend": keras.backend.backend(),
            }
            (partial / NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")
            for file in (partial / STATE, partial / NOTE, partial):
                _flush(file)
            if target.exists():
                shutil.rmtree(target)
            os.replace(partial, target)
            _flush(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for old in self.steps[: -self.keep]:
            shutil.rmtree(self.folder / f"step-{old:09}")
        return target

    def restore(self, model: keras.Model) -> int:
        """Load the newest whole checkpoint, and warn of any that is damaged.

        Args:
            model: a compiled model, built as the one that was saved.

        Returns:
            How many steps were done; 0 if there is no checkpoint.

        Raises:
            ValueError: the run had other settings, the model has other variables, or
                every checkpoint is damaged.
        """
        damaged = []
        for step in reversed(self.steps):
            folder = self.folder / f"step-{step:09}"
            try:
                note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
                if file_digest(folder / STATE) != note["sha256"]:
                    raise ValueError("its SHA-256 is another")
            except (OSError, ValueError, KeyError) as error:
                damaged.append(f"{folder.name} ({error})")
                continue
            if damaged:
                warnings.warn(
                    f"Damaged checkpoints in {self.folder}: {', '.join(damaged)}. "
                    f"Going on from step {step}.",
                    stacklevel=2,
                )
            self._refuse_other(note["settings"])
            self._load(model, folder)
            return step
        if damaged:
            raise ValueError(
                f"Every checkpoint in {self.folder} is damaged: {', '.join(damaged)}. "
                "Copy one back from elsewhere, or choose another folder to begin anew."
            )
        return 0

    def _refuse_other(self, held: dict[str, Any]) -> None:
        if changed := differences(self.settings, held):
            raise ValueError(
                f"{self.folder} holds a run with {changed}. Go on with its "
                "settings, or choose another folder."
            )

    def _load(self, model: keras.Model, folder: Path) -> None:
        from safetensors.numpy import load_file

        arrays = load_file(folder / STATE)
        variables = dict(_variables(model))
        wrong = [f"{name} is new" for name in variables if name not in arrays]
        wrong += [f"{name} is gone" for name in arrays if name not in variables]
        wrong += [
            f"{name} was {arrays[name].shape}, is {tuple(variable.shape)}"
            for name, variable in variables.items()
            if name in arrays and arrays[name].shape != tuple(variable.shape)
        ]
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise ValueError(
                f"{folder} is of another model or optimizer: {'; '.join(wrong[:5])}"
                f"{more}. Build and compile it as it was saved."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])


def _variables(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yield the variables of a model and its optimizer under names of their own."""
    if hasattr(model, "jax_state_sync"):  # within fit, JAX keeps the state elsewhere
        model.jax_state_sync()
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError("The model has no optimizer: call compile() first.")
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    seen: set[int] = set()
    for owner, variables in (
        ("model", model.variables),
        ("optimizer", optimizer.variables),
    ):
        for variable in variables:
            if id(variable) not in seen | metrics:
                seen.add(id(variable))
                # Keras counts its names in a process, as in adam_w_2: the order of the
                # variables, which is that of the code, tells them apart instead.
                path = COUNTED.sub("", variable.path)
                yield f"{owner}/{len(seen):05}/{path}", variable


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
