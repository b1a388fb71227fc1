"""What every script of this folder does with its task: train, keep the best, report.

A script has `RECIPE`, `TEST`, `SUBMISSION`, and the functions `write_smoke`,
`load_data`, `build_model`, `predict`, `score`, `baseline` and `submission`.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import keras
from records import as_json, find_folder, write_whole

from bert4keras3.training.adafactor import AdaFactor

SMOKE = dict(num_layers=1, hidden_dim=32, intermediate_dim=64, key_dim=16)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the authors of RoFormerV2 and GAU-α fine-tuned a task with.

    Attributes:
        task: name.
        sequence_length: the most tokens of a row.
        batch_size: examples of a step.
        epochs: passes over the training split.
        metric: the figure that the best epoch has most of.
        shown: the figure for the table, by default the same.
        full: examples of the official training and dev splits.
        accumulation: steps whose gradients make one update.
        learning_rate: of AdaFactor, relative to the size of each weight.
    """

    task: str
    sequence_length: int
    batch_size: int
    epochs: int
    metric: str
    full: tuple
    shown: str | None = None
    accumulation: int = 1
    learning_rate: float = 5e-4


def parse_arguments(script, arguments=None):
    recipe = script.RECIPE
    parser = argparse.ArgumentParser(description=script.__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", help="folder of CLUE's files, or the folder around it")
    add("--model", default="gau-alpha", help="a name of the zoo, or a path")
    add("--weights", default="released", help="'none' for random weights")
    add("--output", help=f"folder of the run (clue/{recipe.task}/MODEL-WEIGHTS-SEED)")
    add("--seed", type=int, default=0)
    add("--epochs", type=int, default=recipe.epochs)
    add("--batch-size", type=int, default=recipe.batch_size)
    add("--sequence-length", type=int, default=recipe.sequence_length)
    add("--learning-rate", type=float, default=recipe.learning_rate)
    add("--accumulation", type=int, default=recipe.accumulation)
    add("--pooling", default="first", help="of texts and choices; 'mean', 'max', ...")
    add("--limit", type=int, help="train on so many examples only, drawn once")
    add("--no-xla", action="store_true", help="no XLA; short runs on a CPU gain")
    add("--smoke", action="store_true", help="built-in data, a minute; proves nothing")
    options = parser.parse_args(arguments)
    options.sizes = {}
    if options.smoke:
        options.model, options.weights, options.sizes = "gau-alpha-tiny", "none", SMOKE
        options.epochs, options.batch_size, options.sequence_length = 2, 4, 64
        options.accumulation, options.no_xla = 1, True
    elif not options.data:
        parser.error("give --data, the folder of CLUE's files, or --smoke")
    if options.output is None:
        model = Path(options.model).name
        run = (
            f"{model}-{options.weights}-{options.seed}"
            if not options.smoke
            else "smoke"
        )
        options.output = f"clue/{recipe.task}/{run}"
    options.weights = None if options.weights == "none" else options.weights
    # A step is compiled once per length; most batches need less than the longest.
    options.buckets = sorted({options.sequence_length // part for part in (4, 2, 1)})
    return options


class KeepBest(keras.callbacks.Callback):
    """Scores the dev split after each epoch and keeps the weights of the best.

    The log of an earlier part of the same run says what was best until then.
    """

    def __init__(self, folder, metric, evaluate):
        super().__init__()
        self.log, self.weights = folder / "log.jsonl", folder / "best.weights.h5"
        self.metric, self.evaluate = metric, evaluate

    @property
    def epochs(self):
        """epoch -> figures; an epoch that was run twice counts once."""
        if not self.log.exists():
            return {}
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return {line["epoch"]: line for line in map(json.loads, lines)}

    def best(self):
        return max(self.epochs.values(), key=lambda line: line[self.metric])

    def on_epoch_end(self, epoch, logs=None):
        before = [line[self.metric] for line in self.epochs.values()]
        figures = self.evaluate(self.model)
        if figures[self.metric] > max(before, default=-1.0):
            partial = self.weights.with_name("partial.weights.h5")
            self.model.save_weights(partial)
            os.replace(partial, self.weights)
        line = {"epoch": epoch + 1, "loss": float((logs or {})["loss"]), **figures}
        with open(self.log, "a", encoding="utf-8") as log:
            print(json.dumps(line), file=log)
        shown = ", ".join(f"{k} {v:.2f}" for k, v in figures.items())
        print(f"\nepoch {epoch + 1}: dev {shown}", flush=True)


@contextlib.contextmanager
def data_folder(script, options):
    """The folder of the task's files; with `--smoke` one with built-in records."""
    if not options.smoke:
        yield find_folder(options.data, script.RECIPE.task)
        return
    with tempfile.TemporaryDirectory() as folder:
        script.write_smoke(Path(folder))
        yield Path(folder)


def check_same_run(folder, settings):
    """Begin a run in a folder, or go on with one that has the same settings.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    path = folder / "settings.json"
    if not path.exists():
        return write_whole(path, as_json(settings))
    held = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in settings if held.get(name) != settings[name]]
    if changed:
        was = ", ".join(f"{n}={held.get(n)!r} (now {settings[n]!r})" for n in changed)
        raise ValueError(
            f"{folder} holds a run with {was}. Choose another --output, or remove it."
        )


def compile_model(model, options):
    model.compile(
        AdaFactor(
            options.learning_rate,
            beta_1=0.9,
            min_dim_size_to_factor=10**6,
            gradient_accumulation_steps=(
                options.accumulation if options.accumulation > 1 else None
            ),
        ),
        jit_compile=not options.no_xla and keras.backend.backend() != "torch",
    )


def fine_tune(script, arguments=None):
    """Train a script's task, or go on after a kill; return the results.

    Writes into the folder of the run: `log.jsonl`, one line per epoch; `model.keras`,
    the task after its best epoch; `results.json`; and the submission file, if there
    is a test split.
    """
    options, recipe = parse_arguments(script, arguments), script.RECIPE
    output = Path(options.output)
    if options.smoke and (output / "results.json").exists():
        output = Path(tempfile.mkdtemp(prefix=f"{recipe.task}-"))
    output.mkdir(parents=True, exist_ok=True)
    if (output / "results.json").exists():
        print(f"{output} holds a run that has ended:")
        results = json.loads((output / "results.json").read_text(encoding="utf-8"))
        return show(results)
    began = time.perf_counter()
    keras.utils.set_random_seed(options.seed)
    with data_folder(script, options) as folder:
        train, dev = (script.load_data(folder, split) for split in ("train", "dev"))
        has_test = (folder / script.TEST).exists()
        test = script.load_data(folder, "test") if has_test else None
    full = len(train) >= recipe.full[0], len(dev) >= recipe.full[1]
    if options.limit:
        full = (full[0] and options.limit >= len(train), full[1])
        train = train.sample(options.limit)
    settings = {
        name: getattr(options, name)
        for name in ("model", "weights", "seed", "epochs", "batch_size", "limit")
        + ("sequence_length", "learning_rate", "accumulation", "pooling")
    }
    check_same_run(output, settings)
    model = script.build_model(options)
    compile_model(model, options)
    keep = KeepBest(
        output,
        recipe.metric,
        lambda model: script.score(script.predict(model, dev, options), dev),
    )
    model.fit(
        train.x,
        train.y,
        batch_size=options.batch_size,
        epochs=options.epochs,
        callbacks=[
            keep,
            keras.callbacks.BackupAndRestore(output / "backup", double_checkpoint=True),
        ],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    model.load_weights(keep.weights)
    model.save(output / "partial.keras")
    os.replace(output / "partial.keras", output / "model.keras")
    if test is not None:
        answers = script.predict(model, test, options)
        write_whole(output / script.SUBMISSION, script.submission(answers, test))
    best = {name: value for name, value in keep.best().items() if name != "loss"}
    shown = recipe.shown or recipe.metric
    results = {
        "task": recipe.task,
        "metric": shown,
        "score": best[shown],
        "baseline": script.baseline(train, dev)[shown],
        "best": best,
        "train": len(train),
        "dev": len(dev),
        "full_train": full[0],
        "full_dev": full[1],
        "minutes": round((time.perf_counter() - began) / 60, 2),
        "backend": keras.backend.backend(),
        "settings": settings,
    }
    write_whole(output / "results.json", as_json(results))
    keep.weights.unlink()
    return show(results)


def show(results):
    """Print one line that a script can read; return the results."""
    print(
        f"{results['task']}: dev {results['metric']} {results['score']:.2f} "
        f"(baseline {results['baseline']:.2f}), {results['minutes']} minutes"
    )
    return results
