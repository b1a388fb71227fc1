"""Run any of the eleven CLUE tasks and print the published table with our row in it.

Task: fine-tune a model on each task, with several seeds, from its weights and, with
    --random, from random ones.
Data: the folder of examples/clue/download.py.
Command: python examples/clue/table.py --data FOLDER --model gau-alpha --seeds 3
    python examples/clue/table.py --smoke
Hardware: see the scripts of the tasks; runs that have ended are not repeated.
Score: mean over the seeds, with the least and the most; `*` marks a task of which
    training or dev split is a sample and not the official one.
What follows `--` goes to the scripts: table.py --data FOLDER -- --epochs 3 --no-xla
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from zoo.scores import GAU_ALPHA_POST

HERE = Path(__file__).parent
TASKS = GAU_ALPHA_POST.tasks


def parse_arguments(arguments=None):
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", help="folder with a folder for each task")
    add("--model", default="gau-alpha", help="a name of the zoo, or a path")
    add("--tasks", nargs="*", default=TASKS, choices=TASKS)
    add("--seeds", type=int, default=1, help="how many, from 0 on")
    add("--random", action="store_true", help="also from random weights")
    add("--output", default="clue", help="folder of all runs")
    add("--smoke", action="store_true", help="built-in data; proves nothing")
    options = parser.parse_args(arguments[:at])
    options.rest = arguments[at + 1 :]
    if not (options.data or options.smoke):
        parser.error("give --data, or --smoke for a few built-in records")
    return options


def smoke(options):
    """Every script once, in this process: loading the libraries takes the longest."""
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks:
            script = importlib.import_module(task)
            output = Path(folder) / task
            results = script.fine_tune(
                script, ["--smoke", "--output", str(output), *options.rest]
            )
            assert (output / script.SUBMISSION).stat().st_size
            assert results["dev"] and (output / "model.keras").exists()


def run(options, task, weights, seed):
    """One run in a process of its own; its results, or `None` if it failed."""
    model = Path(options.model).name
    folder = Path(options.output) / task / f"{model}-{weights}-{seed}"
    command = [sys.executable, str(HERE / f"{task}.py"), "--data", options.data]
    command += ["--model", options.model, "--weights", weights, "--seed", str(seed)]
    command += ["--output", str(folder), *options.rest]
    if not (folder / "results.json").exists():
        failed = subprocess.run(command).returncode
        if failed:
            print(f"{task}, {weights}, seed {seed}: failed; see above", flush=True)
            return None
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def cell(results):
    """Mean (least - most) of the seeds, `*` for a sample; `-` where none ended."""
    results = [each for each in results if each is not None]
    if not results:
        return "-"
    scores = np.array([each["score"] for each in results])
    full = all(each["full_train"] and each["full_dev"] for each in results)
    text = f"{scores.mean():.2f}"
    if len(scores) > 1:
        text += f" ({scores.min():.2f} - {scores.max():.2f})"
    return text + ("" if full else "\\*")


def print_table(tasks, rows):
    print("| | " + " | ".join(tasks) + " |")
    print("|---" * (len(tasks) + 1) + "|")
    for title, scores in GAU_ALPHA_POST.rows.items():
        values = dict(zip(GAU_ALPHA_POST.tasks, scores, strict=True))
        print(f"| {title} | " + " | ".join(f"{values[t]:.2f}" for t in tasks) + " |")
    for title, cells in rows.items():
        print(f"| **{title}** | " + " | ".join(cells[task] for task in tasks) + " |")


def main(arguments=None):
    options = parse_arguments(arguments)
    if options.smoke:
        return smoke(options)
    starts = ("released", "none") if options.random else ("released",)
    results = {
        (weights, task): [
            run(options, task, weights, seed) for seed in range(options.seeds)
        ]
        for task in options.tasks
        for weights in starts
    }
    name = Path(options.model).name
    titles = {"released": name, "none": f"{name}, random weights"}
    rows = {
        titles[weights]: {task: cell(results[weights, task]) for task in options.tasks}
        for weights in starts
    }
    first = {t: next(filter(None, results["released", t]), None) for t in options.tasks}
    rows["baseline"] = {
        task: "-" if found is None else f"{found['baseline']:.2f}"
        for task, found in first.items()
    }
    print_table(options.tasks, rows)
    print("\n\\* training or dev split is a sample of the official one:")
    for task, found in first.items():
        if found and not (found["full_train"] and found["full_dev"]):
            print(f"{task}: {found['train']} to train on, {found['dev']} of dev")


if __name__ == "__main__":
    main()
