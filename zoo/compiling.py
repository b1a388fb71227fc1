"""Plan pretraining on chips that are not here: memory, work, the largest batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import zoo
from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.adafactor import AdaFactor
from bert4keras3.training.ahead_of_time import (
    compile_step,
    data_parallel,
    model_parallel,
    target_devices,
)
from bert4keras3.training.compiled_step import CompiledStep
from bert4keras3.training.lamb import LAMB
from bert4keras3.training.language_model_objectives import CausalLM, PrefixLM
from bert4keras3.training.masking_objectives import WholeWordMasking
from bert4keras3.training.tiger import Tiger

__all__ = ["Plan", "compile_task", "example_batch", "largest_batch", "plan"]

# Objective, and what the backbone attends to for it.
OBJECTIVES = {
    "masked_lm": (WholeWordMasking, "bidirectional"),
    "causal_lm": (CausalLM, "causal"),
    "prefix_lm": (PrefixLM, "prefix"),
}
OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "lamb": LAMB,
    "tiger": Tiger,
    "adafactor": AdaFactor,
}


@dataclass(frozen=True)
class Plan:
    """A step compiled ahead of time, and what it was asked for.

    Args:
        step: `CompiledStep`; sizes and work are per chip.
        parameters: int, of the model.
        batch: rows on all chips together.
        largest: the largest such batch that fits, or `None` if not asked for.
    """

    step: CompiledStep
    parameters: int
    batch: int
    largest: int | None = None


def plan(
    model: str,
    batch: int = 32,
    length: int = 512,
    topology: str = "v5e:2x2",
    mesh: Sequence[int] | None = None,
    objective: str = "masked_lm",
    optimizer: str = "adamw",
    dtype: str = "mixed_bfloat16",
    recompute: str | None = None,
    find_largest: bool = False,
    **overrides: Any,
) -> Plan:
    """Compile a model's pretraining step for chips that are not here.

    Nothing is downloaded and nothing is run: the weights are random. JAX only.

    Args:
        model: a name of the zoo.
        batch: rows on all chips together.
        length: tokens of a row.
        topology: `"v5e:2x2"`, `"h100:4"`; see `ahead_of_time.target_devices`.
        mesh: `(parts of a batch, parts of a weight)`; by default every chip has all
            weights and a part of the batch.
        objective: `"masked_lm"`, `"causal_lm"` or `"prefix_lm"`.
        optimizer: `"adamw"`, `"lamb"`, `"tiger"` or `"adafactor"`.
        dtype: of the model.
        recompute: `"attention"` or `"layer"`; see `Backbone.enable_recompute`.
        find_largest: also find the largest batch that fits, which compiles a few times.
        overrides: of the model's configuration.

    Returns:
        `Plan`.

    Raises:
        MemoryError: the batch does not fit.
        ValueError: an unknown name, a batch that does not divide over the mesh, or a
            mesh larger than the topology.
    """
    for value, known, name in (
        (objective, OBJECTIVES, "objective"),
        (optimizer, OPTIMIZERS, "optimizer"),
    ):
        if value not in known:
            raise ValueError(f"Unknown {name} {value!r}. Known: {', '.join(known)}.")
    if batch < 1 or length < 3:
        raise ValueError(
            f"A batch has at least one row of three tokens. Received {batch} rows of "
            f"{length}."
        )
    devices = target_devices(topology)
    task = zoo.load(
        model,
        weights=None,
        task="masked_lm",
        preprocessor=None,
        attention=OBJECTIVES[objective][1],
        dtype=dtype,
        **overrides,
    )
    task.backbone.enable_recompute(recompute)
    compile_task(task, optimizer)
    if mesh is None:
        distribution = data_parallel(devices)
    else:
        distribution = model_parallel(devices, mesh, type(task.backbone))

    def compiled(rows: int) -> CompiledStep:
        data = example_batch(objective, rows, length)
        return compile_step(task, data, topology, distribution)

    largest = None
    step = compiled(batch)
    if find_largest:
        parts = distribution.device_mesh.shape[0]
        largest = largest_batch(compiled, batch, step, parts)
    return Plan(step, task.count_params(), batch, largest)


def largest_batch(
    compiled: Callable[[int], CompiledStep], fits: int, step: CompiledStep, unit: int
) -> int:
    """Find the most rows that fit, a multiple of `unit`, to within a sixteenth.

    Args:
        compiled: compiles a step of so many rows, or raises `MemoryError`.
        fits: rows that are known to fit.
        step: what `compiled(fits)` gave.
        unit: rows are a multiple of it.

    Returns:
        Rows.
    """
    too_many = None
    # What does not grow with the batch is the state; the rest tells where to look.
    per_row = max(step.peak - step.state, 1) / fits
    guess = int((step.capacity - step.state) / per_row) if step.capacity else 2 * fits
    while too_many is None or too_many - fits > max(unit, fits // 16):
        low, high = fits + unit, (too_many or 4 * fits + unit) - unit
        rows = min(max(guess // unit * unit, low), max(low, high))
        try:
            compiled(rows)
        except MemoryError:
            too_many = rows
        else:
            fits = rows
        guess = (fits + too_many) // 2 if too_many else 2 * fits
    return fits


def example_batch(objective: str, rows: int, length: int) -> tuple[Any, Any, Any]:
    """Return a batch of the shapes of an objective; its tokens mean nothing."""
    import tensorflow as tf

    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "的"])
    row = np.full((1, length), tokenizer.unk_token_id, "int32")
    row[0, 0], row[0, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    places = np.arange(-1, length - 1)[None].astype("int32")
    places[0, -1] = -1
    one = np.where(places >= 0, 0, -1).astype("int32")
    records = {
        "token_ids": row,
        "word_ids": places,
        "sentence_ids": one,
        "document_ids": one,
    }
    objective_class, _ = OBJECTIVES[objective]
    batch = objective_class(tokenizer)(records, tf.constant([0, 0], "int64"))
    repeated = tf.nest.map_structure(
        lambda array: np.repeat(np.asarray(array), rows, axis=0), batch
    )
    return tuple(repeated)


def compile_task(task: Any, name: str) -> None:
    """Compile a task with what a long run has: clipping, decay and the metrics."""
    task.compile(
        OPTIMIZERS[name](1e-4, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=True,
    )
