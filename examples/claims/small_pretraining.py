"""Small GAU-α against small RoFormerV2: the same text, parameters and steps.

Claim: two gated attention units do the work of one Transformer layer, with one head
    instead of many (GAU, https://arxiv.org/abs/2202.10447; GAU-α,
    https://kexue.fm/archives/9052).
Data: that of examples/pretrain_mlm.py, whose arguments are passed on: --data,
    --segmented, --steps, --learning-rate and others.
Command: python examples/claims/small_pretraining.py --runs FOLDER --data TEXT
    python examples/claims/small_pretraining.py --smoke
    The same command goes on with what was stopped; --models picks one, so that two
    processes can train side by side.
Hardware: two CPU cores, about an hour for each model.
Score: mean loss of held-out whole words over the sources of text, by the token places
    and the processor seconds of training.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import report

sys.path.insert(0, str(Path(__file__).parents[1]))
import pretrain_mlm  # noqa: E402

# As many parameters: 4,318,208 and 4,317,696 with the head.
MODELS = {
    "gau-alpha-tiny": ["--preset", "gau-alpha-tiny"],
    "roformer-v2-tiny": ["--preset", "roformer-v2-tiny"],
}
SMOKE = {
    "gau-alpha-tiny": [],
    "roformer-v2-tiny": [
        *("--preset", "roformer-v2-tiny", "--override", "hidden_dim=32"),
        *("num_heads=2", "num_layers=1", "intermediate_dim=64"),
    ],
}
CURVES = {
    "places": ("small_pretraining_places", "token places, millions"),
    "seconds": ("small_pretraining_seconds", "processor seconds"),
}


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    add("--runs", default="small_pretraining", help="folder of the runs")
    add("--output", help="folder for the plots and the figures")
    add("--smoke", action="store_true", help="seconds; proves nothing")
    return parser.parse_known_args(arguments)


def read_log(folder):
    """Rounds of a run: token places in millions, seconds, mean loss held out."""
    text = (Path(folder) / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    note = next(Path(folder).glob("step-*/note.json"))
    settings = json.loads(note.read_text(encoding="utf-8"))["settings"]
    rows = []
    for line in lines:
        losses = [value for name, value in line.items() if name.endswith("_loss")]
        places = line["step"] * settings["tokens_per_batch"] / 1e6
        rows.append((places, line["processor_seconds"], np.mean(losses)))
    return dict(zip(CURVES | {"loss": None}, np.array(rows).T, strict=True))


def report_curves(options, runs):
    """Tables at quarters of the way, and a plot by places and one by seconds."""
    for unit, (name, label) in CURVES.items():
        end = min(run[unit][-1] for run in runs.values())
        begin = max(run[unit][0] for run in runs.values())
        grid = np.linspace(begin, end, 40)
        curves = {
            model: np.interp(grid, run[unit], run["loss"])[None]
            for model, run in runs.items()
        }
        shown = [np.argmin(abs(grid - end * part / 4)) for part in (1, 2, 3, 4)]
        print(f"\nHeld-out loss by {label}:\n")
        report.print_table(
            [label, *(f"{grid[at]:.3g}" for at in shown)],
            {model: values[:, shown] for model, values in curves.items()},
        )
        report.save(options, name, label, "held-out loss", grid, curves)


def main(arguments=None):
    options, passed = parse_arguments(arguments)
    runs = Path(options.runs)
    arguments_of = MODELS
    if options.smoke:
        arguments_of, passed = SMOKE, ["--smoke", "--no-xla", *passed]
    for model in options.models:
        folder = str(runs / model), "--records", str(runs)
        pretrain_mlm.main([*passed, "--output", *folder, *arguments_of[model]])
    finished = {
        model: read_log(runs / model)
        for model in MODELS
        if (runs / model / f"model-{_steps(runs / model)}").exists()
    }
    if len(finished) == len(MODELS):
        report_curves(options, finished)
    return finished


def _steps(folder):
    """The step of the newest checkpoint."""
    return max((int(path.name[5:]) for path in folder.glob("step-*")), default=0)


if __name__ == "__main__":
    main()
