"""What the scripts of this folder share: arguments, tables of several seeds, plots."""

import argparse
import json
from pathlib import Path

import keras
import numpy as np


def parse_arguments(description, arguments=None, data=False):
    """`--seeds`, `--output` and `--smoke`, which takes one seed; `--data` if asked."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--output", help="folder for the plot and the figures")
    parser.add_argument("--smoke", action="store_true", help="seconds; proves nothing")
    if data:
        parser.add_argument("--data", nargs="*", help="text: files or folders")
    options = parser.parse_args(arguments)
    if data and not (options.data or options.smoke):
        parser.error("give --data, or --smoke for a few built-in sentences")
    if options.smoke:
        options.seeds = 1
    return options


def by_seed(options, run):
    """`run()` once per seed; the results as an array with the seeds in front."""
    results = []
    for seed in range(options.seeds):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        results.append(run())
    return np.array(results, "float64")


def spread(values, form):
    """`mean (least - most)` of one figure over the seeds."""
    low, high = form.format(values.min()), form.format(values.max())
    mean = form.format(values.mean())
    return mean if low == high else f"{mean} ({low} - {high})"


def print_table(columns, rows, form="{:.3f}"):
    """A markdown table.

    Args:
        columns: names of the figures; the first is that of the row names.
        rows: row name -> `(seeds, figures)` array.
        form: how a figure is written.
    """
    print("| " + " | ".join(map(str, columns)) + " |")
    print("|---" * len(columns) + "|")
    for name, figures in rows.items():
        cells = [spread(column, form) for column in figures.T]
        print("| " + " | ".join([name, *cells]) + " |", flush=True)


def save(options, name, x_label, y_label, x, curves, log_x=False):
    """Write `name.json` and `name.svg` into the output folder, if there is one.

    Args:
        x: values of the axis.
        curves: curve name -> `(seeds, len(x))` array; the band spans the seeds.
    """
    if not options.output:
        return
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {key: np.round(value, 4).tolist() for key, value in curves.items()}
    # A line for every curve.
    lines = {"x": list(map(float, x)), **figures}
    text = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in lines.items())
    (folder / f"{name}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")

    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = name  # the same figures, the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for label, values in curves.items():
        axes.plot(x, values.mean(0), label=label)
        axes.fill_between(x, values.min(0), values.max(0), alpha=0.15)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if log_x:
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(value) for value in x])
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    print(f"written: {folder / name}.svg")
