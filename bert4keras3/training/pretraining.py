"""The loop of a long run: rounds of steps, each ended by a checkpoint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from bert4keras3.training.checkpoints import Checkpoints

__all__ = ["RunLog", "pretrain"]


class RunLog(keras.callbacks.Callback):
    """Appends the means of each round to `log.jsonl`, and tokens per second.

    After a resume the lines behind the checkpoint are dropped, since their rounds are
    run again.

    Args:
        folder: where the log is.
        steps_per_round: int, steps of an epoch of `fit`.
        tokens_per_step: int, places of a batch, padding included; 0 if unknown.
        step: int, the step of the checkpoint the run goes on from.
        ceiling: float, the steps per second that the devices could do at the most,
            which is their peak by the operations of a step; 0 if unknown.
    """

    def __init__(
        self,
        folder: str | Path,
        steps_per_round: int,
        tokens_per_step: int = 0,
        step: int = 0,
        ceiling: float = 0.0,
    ):
        super().__init__()
        self.steps_per_round = steps_per_round
        self.path = Path(folder) / "log.jsonl"
        self.tokens_per_step = tokens_per_step
        self.ceiling = ceiling
        kept = [line for line in self.lines if line["step"] <= step]
        partial = self.path.with_name(".partial-log.jsonl")
        partial.write_text("".join(map(_as_line, kept)), encoding="utf-8")
        os.replace(partial, self.path)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What was logged; half a line at the end, left by a kill, is left out."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n")[:-1] if line]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self.began
        line: dict[str, Any] = {"step": (epoch + 1) * self.steps_per_round}
        line |= {name: float(value) for name, value in (logs or {}).items()}
        if self.tokens_per_step:
            tokens = self.steps_per_round * self.tokens_per_step
            line["tokens_per_second"] = round(tokens / seconds)
        if self.ceiling:
            steps = self.steps_per_round / seconds
            line["share_of_ceiling"] = round(steps / self.ceiling, 4)
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(_as_line(line))


class _Saving(keras.callbacks.Callback):
    """Saves a checkpoint at the end of each round."""

    def __init__(self, checkpoints: Checkpoints, steps_per_round: int):
        super().__init__()
        self.checkpoints, self.steps_per_round = checkpoints, steps_per_round

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.checkpoints.save(self.model, (epoch + 1) * self.steps_per_round)


def pretrain(
    model: keras.Model,
    batches: Callable[[int], Any],
    steps: int,
    checkpoints: Checkpoints,
    steps_per_round: int = 1000,
    tokens_per_step: int = 0,
    ceiling: float = 0.0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: Any = "auto",
) -> list[dict[str, Any]]:
    """Train for a number of steps with `fit`, going on from the newest checkpoint.

    Args:
        model: a compiled model; optimizer, schedule, clipping, accumulation, precision
            and XLA are those of `compile`.
        batches: from the number of a step to the batches from there on, without end, as
            `lambda step: pretraining_dataset(records, objective, step)`.
        steps: int, in all; a multiple of `steps_per_round`.
        checkpoints: `Checkpoints`.
        steps_per_round: int, steps between checkpoints; an epoch of `fit`.
        tokens_per_step: int, places of a batch, for the log.
        ceiling: float, steps per second that the devices could do at the most, for the
            log: their operations per second by those of a step, see
            `ahead_of_time.compile_step`.
        callbacks: more callbacks, for example `keras.callbacks.TensorBoard`.
        verbose: of `fit`.

    Returns:
        The lines of `log.jsonl` in the folder of the checkpoints: step, loss, metrics,
        and tokens per second.

    Raises:
        ValueError: `steps` are no multiple of the rounds, or see `Checkpoints.restore`.
    """
    if steps_per_round < 1 or steps % steps_per_round:
        raise ValueError(
            f"steps={steps} must be a multiple of steps_per_round={steps_per_round}, "
            "which is at least 1: every round ends with a checkpoint."
        )
    step = checkpoints.restore(model)
    log = RunLog(checkpoints.folder, steps_per_round, tokens_per_step, step, ceiling)
    if step >= steps:
        return log.lines
    if step % steps_per_round:
        raise ValueError(
            f"The checkpoint is at step {step}, within a round of {steps_per_round}. "
            "Go on with the `steps_per_round` of the run."
        )
    saving = _Saving(checkpoints, steps_per_round)
    model.fit(
        batches(step),
        steps_per_epoch=steps_per_round,
        initial_epoch=step // steps_per_round,
        epochs=steps // steps_per_round,
        shuffle=False,
        # The log first: a line without its checkpoint is dropped, but not the reverse.
        callbacks=[*callbacks, log, saving],
        verbose=verbose,
    )
    return log.lines


def _as_line(content: dict[str, Any]) -> str:
    return json.dumps(content) + "\n"
