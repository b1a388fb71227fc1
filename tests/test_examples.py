"""Every example runs with `--smoke`, offline, and says how to be run."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Other files of `claims` and `clue` are what its scripts share.
SHARED = {"chomsky_tasks", "language_model", "markov_text", "report"}
SHARED |= {"choices", "classification", "fine_tune", "records", "tables"}
EXAMPLES = sorted(
    path for path in (ROOT / "examples").rglob("[!_]*.py") if path.stem not in SHARED
)


def needs_jax(path):
    return "import jax" in path.read_text(encoding="utf-8")


# Loading the libraries takes longer than most scripts: these run in one process, here
# or in `clue/table.py --smoke`.
TOGETHER = [path for path in EXAMPLES if path.parent.name == "fine_tuning"]
RUN_ALL = """
import runpy, sys
for path in sys.argv[1:]:
    sys.path.insert(0, path.rpartition("/")[0])
    sys.argv = [path, "--smoke"]
    runpy.run_path(path, run_name="__main__")
    print("ended:", path)
"""
RUNS = [
    path
    for path in EXAMPLES
    if path not in TOGETHER
    and (path.parent.name != "clue" or path.stem in ("table", "download"))
]


def run(path, *arguments, cwd):
    return run_command([sys.executable, str(path), *arguments], cwd)


def run_command(command, cwd):
    return subprocess.run(
        command,
        cwd=cwd,
        env={
            **os.environ,
            "BERT4KERAS3_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        timeout=550,
    )


def test_there_are_examples():
    names = {path.stem for path in EXAMPLES}
    assert {"demo", "fill_in_the_blank", "sentence_embedding", "pretrain_mlm"} <= names
    assert {"random_positions", "attention_rank", "position_probe", "masks"} <= names
    assert {"general_rotation", "trained_rotation", "gau_speed"} <= names
    assert {"local_attention", "train_short_test_long"} <= names
    assert {"iflytek", "tnews", "afqmc", "cmnli", "ocnli", "wsc", "csl"} <= names
    assert {"cmrc2018", "c3", "chid", "cluener", "table", "download"} <= names


@pytest.mark.example
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    if needs_jax(path) and importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX")
    done = run(path, "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.example
def test_examples_of_fine_tuning_run(tmp_path):
    names = {"sentiment", "similarity", "cosent", "simcse", "adversarial"}
    assert {path.stem for path in TOGETHER} == {
        *names,
        "relation_extraction",
        "ner_crf",
    }
    command = [sys.executable, "-c", RUN_ALL, *map(str, TOGETHER)]
    done = run_command(command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ended:") == len(TOGETHER)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_names_its_command(path):
    text = path.read_text(encoding="utf-8")
    command = f"python {path.relative_to(ROOT).as_posix()}"
    assert command in ast.get_docstring(ast.parse(text))
    assert "/home/" not in text and "/root/" not in text
