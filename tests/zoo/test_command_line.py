"""`python -m zoo`: what it prints, where, and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from zoo.__main__ import app, write_array
from zoo.checkpoints import open_checkpoint
from zoo.presets import PRESETS

MODELS = Path(__file__).parents[1] / "golden" / "models"
COMMANDS = (
    "list",
    "describe",
    "fill",
    "embed",
    "convert",
    "verify",
    "records",
    "compile",
)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "zoo", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "BERT4KERAS3_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def vocabulary_of(folder):
    return (folder / "vocab.txt").read_text("utf-8").split("\n")


# --- help and usage -------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output and len(done.output.splitlines()) > 5


def test_help_lists_every_command():
    done = run("--help")
    assert done.exit_code == 0
    assert all(command in done.output for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("lst",),
        ("describe",),
        ("fill", "今[MASK]", "--top-k", "0"),
        ("fill", "今[MASK]", "--no-such-option"),
        ("embed", "one text has no neighbours"),
        ("embed", "a", "--output", "vectors.txt"),
        ("convert", "x", "y", "--format", "onnx"),
        ("convert", "x", "y", "--dtype", "int8"),
        ("convert", "x", "folder", "--format", "keras"),
        ("convert", "x", "y.keras", "--format", "keras", "--dtype", "float16"),
        ("verify",),
    ],
)
def test_usage_errors_are_2(arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Usage" in done.stderr and not done.stdout


def test_a_mistyped_command_gets_a_suggestion():
    assert "list" in run("lst").stderr


# --- list and describe ----------------------------------------------------------


def test_list_names_every_model():
    done = run("list")
    assert done.exit_code == 0 and len(PRESETS) >= 16
    assert all(f"\n{name} " in done.stdout for name in PRESETS)


def test_list_with_a_pattern():
    lines = run("list", "roformer-v2*").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "roformer-v2-small",
        "roformer-v2-base",
        "roformer-v2-large",
        "roformer-v2-tiny",
    ]


def test_list_without_a_match_is_a_failure():
    done = run("list", "roformer-v3*")
    assert done.exit_code == 1 and not done.stdout
    assert "'roformer-v2-" in done.stderr


def test_list_as_markdown():
    lines = run("list", "--markdown", "gau*").stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith("| ") for line in lines)


def test_describe():
    done = run("describe", "roformer-v2-base")
    assert done.exit_code == 0
    for part in ("Apache-2.0", "vocabulary_size=12000", "kexue.fm", ".zip"):
        assert part in done.stdout


def test_unknown_name_is_one_block_with_the_near_name():
    done = run("describe", "gau-alfa")
    assert done.exit_code == 1 and not done.stdout
    assert done.stderr.startswith("error: ") and "'gau-alpha'" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_exception():
    done = run("--debug", "describe", "gau-alfa")
    assert done.exit_code == 1
    assert type(done.exception).__name__ == "UnknownModelError"


# --- fill and embed -------------------------------------------------------------


def test_fill_a_folder():
    folder = MODELS / "gau_alpha"
    word = vocabulary_of(folder)[150]
    text = f"{word}[MASK]{word}[MASK]"
    done = run("fill", text, "--model", folder, "--top-k", 3)
    assert done.exit_code == 0, done.output
    assert text in done.stdout
    assert done.stdout.count("%") == 2 * 3


def test_fill_without_a_blank():
    done = run("fill", "no blank", "--model", MODELS / "gau_alpha")
    assert done.exit_code == 1
    assert "[MASK]" in done.stderr and "no blank" in done.stderr


def test_fill_with_a_missing_folder(tmp_path):
    done = run("fill", "a[MASK]", "--model", tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "nowhere" in done.stderr


def test_embed_prints_neighbours():
    folder = MODELS / "roformer"
    first, second, third = vocabulary_of(folder)[150:153]
    texts = (first * 4, first * 5, third * 4 + second)
    done = run("embed", *texts, "-m", folder)
    assert done.exit_code == 0, done.output
    rows = [line for line in done.stdout.splitlines() if texts[0] in line]
    assert any(texts[1] in row for row in rows)


@pytest.mark.parametrize("model", ["roformer_v2", "roformer_sim"])
def test_embed_writes_vectors_of_length_one(tmp_path, model):
    target = tmp_path / "vectors.npy"
    done = run("embed", "a", "bb", "-m", MODELS / model, "-o", target)
    assert done.exit_code == 0, done.output
    vectors = np.load(target)
    assert vectors.shape == (2, 64) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npy"]


def test_embed_into_a_missing_folder_leaves_nothing(tmp_path):
    target = tmp_path / "no" / "vectors.npy"
    done = run("embed", "a", "b", "-m", MODELS / "roformer_v2", "-o", target)
    assert done.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "vectors.npy"
    write_array(target, np.zeros(3))

    class Broken:
        def __array__(self, *arguments, **keywords):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_array(target, Broken())
    np.testing.assert_array_equal(np.load(target), np.zeros(3))
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npy"]


# --- convert and verify ---------------------------------------------------------


def test_convert_there_and_back_is_exact(tmp_path):
    source = MODELS / "roformer_sim"
    middle, back = tmp_path / "mirror", tmp_path / "released"
    assert run("convert", source, middle, "--format", "safetensors").exit_code == 0
    assert run("convert", middle, back, "--format", "tf1").exit_code == 0
    with open_checkpoint(source) as old, open_checkpoint(back) as new:
        assert set(old.variables) == set(new.variables) and old.variables
        for name in old.variables:
            np.testing.assert_array_equal(old.read(name), new.read(name))
    assert (back / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()


def test_convert_says_what_is_left_behind(tmp_path):
    done = run("convert", MODELS / "roformer_pool_nsp", tmp_path / "target")
    assert done.exit_code == 0, done.output
    assert "cls/seq_relationship/output_weights" in done.stderr
    with open_checkpoint(tmp_path / "target") as checkpoint:
        assert "bert/pooler/dense/kernel" in checkpoint.variables
        assert "cls/predictions/output_bias" in checkpoint.variables


def test_convert_to_half_precision(tmp_path):
    target = tmp_path / "half"
    done = run("convert", MODELS / "gau_alpha", target, "--dtype", "float16")
    assert done.exit_code == 0, done.output
    with open_checkpoint(target) as checkpoint:
        assert {info.dtype for info in checkpoint.variables.values()} == {
            np.dtype("float16")
        }
    assert run("verify", target).exit_code == 0


def test_convert_to_keras_and_verify(tmp_path):
    target = tmp_path / "model.keras"
    done = run("convert", MODELS / "roformer_v2", target, "--format", "keras")
    assert done.exit_code == 0, done.output
    done = run("verify", target)
    assert done.exit_code == 0, done.output
    assert "MaskedLM loads" in done.stdout


def test_convert_refuses_an_existing_target(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = run("convert", MODELS / "gau_alpha", tmp_path)
    assert done.exit_code == 1 and "exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        ("gau_alpha", "gau_alpha"),
        ("roformer_factorized", "roformer"),
        ("roformer_v2", "roformer_v2"),
    ],
)
def test_verify_reports(model, architecture):
    done = run("verify", MODELS / model)
    assert done.exit_code == 0, done.output
    assert f"architecture {architecture} (tf1 names)" in done.stdout
    assert "FAILED" not in done.stdout
    for part in ("word_embeddings", "sha256", "float32", "loads with"):
        assert part in done.stdout


# --- as a process ---------------------------------------------------------------


def test_records_are_built_and_counted(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("今天 天气 很 好 。 去 散步 吧 。\n" * 20, encoding="utf-8")
    command = ["records", str(path), "-o", str(tmp_path / "out"), "--length", "16"]
    done = run(*command, "--segmenter", "spaces", "--processes", "1", "--fill")
    assert done.exit_code == 0, done.output
    assert "1 shards" in done.output and "180 words, 240 tokens" in done.output
    assert (tmp_path / "out" / "manifest.json").exists()
    other = run(*command[:-1], "20", "--segmenter", "spaces", "--fill")
    assert other.exit_code == 1 and "length=16 (now 20)" in other.output


def test_process_results_and_messages_are_apart():
    done = run_process("verify", MODELS / "gau_alpha")
    assert done.returncode == 0, done.stderr
    assert "ok     model" in done.stdout
    assert done.stderr == ""


def test_process_exit_codes():
    assert run_process("list", "gau*").returncode == 0
    failed = run_process("describe", "gau-alfa")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert run_process("descrive", "gau-alpha").returncode == 2
    debug = run_process("--debug", "describe", "gau-alfa")
    assert debug.returncode == 1 and "Traceback" in debug.stderr


def test_process_survives_a_reader_that_goes_away():
    done = subprocess.run(
        f"{sys.executable} -m zoo list | head -n 1",
        shell=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.startswith("name ") and done.stderr == ""
