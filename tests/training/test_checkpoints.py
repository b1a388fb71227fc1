"""Damaged checkpoints, full disks and other configurations."""

import json
import shutil
from pathlib import Path

import keras
import pytest
from pretraining_run import build_corpus, build_model, losses, run

from bert4keras3.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("corpus") / "c")


@pytest.fixture(scope="module")
def expected(records, tmp_path_factory):
    """What a run that nobody stops logs."""
    return run(records, tmp_path_factory.mktemp("whole"), steps=6)


@pytest.fixture(scope="module")
def stopped_once(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    run(records, folder, steps=4)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A run with checkpoints at steps 2 and 4."""
    return shutil.copytree(stopped_once, tmp_path / "run")


@pytest.mark.parametrize("damage", ["truncated", "altered", "no note"])
def test_a_damaged_checkpoint_is_passed_over(records, expected, stopped, damage):
    newest = stopped / "step-000000004"
    state = newest / "state.safetensors"
    content = bytearray(state.read_bytes())
    if damage == "truncated":
        state.write_bytes(content[:-100])
    elif damage == "altered":
        content[-1] ^= 1
        state.write_bytes(content)
    else:
        (newest / "note.json").unlink()
    with pytest.warns(UserWarning, match="step-000000004 .*Going on from step 2"):
        lines = run(records, stopped, steps=6)
    assert losses(lines) == losses(expected)


def test_nothing_but_damage_is_an_error(records, stopped):
    for state in stopped.glob("step-*/state.safetensors"):
        state.write_bytes(b"")
    with pytest.raises(ValueError, match="Every checkpoint in .* is damaged"):
        run(records, stopped)


def test_a_full_disk_leaves_the_checkpoint_before(records, stopped, monkeypatch):
    import safetensors.numpy

    def fail(arrays, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        run(records, stopped)
    assert Checkpoints(stopped).steps == (2, 4)
    assert not list(stopped.glob(".partial*"))


def test_half_a_line_of_the_log_is_dropped(records, expected, stopped):
    with open(stopped / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps({"step": 6, "loss": 99.0}) + '\n{"step": 8, "lo')
    assert losses(run(records, stopped, steps=6)) == losses(expected)


def test_another_configuration_is_refused_with_the_difference(records, stopped):
    with pytest.raises(ValueError, match=r"rate=0.01 \(now 0.1\)"):
        run(records, stopped, settings={"rate": 0.1})
    with pytest.raises(ValueError, match=r"rate=0.01 \(now None\), size=3|size=None"):
        run(records, stopped, settings={"size": 3})
    other = build_model()
    other.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match="is of another model or optimizer: .* is gone"
    ):
        Checkpoints(stopped, {"rate": 1e-2}).restore(other)


def test_odd_numbers_are_refused(records, stopped):
    with pytest.raises(ValueError, match="must be a multiple of steps_per_round"):
        run(records, stopped, steps=7)
    with pytest.raises(ValueError, match="At least one checkpoint"):
        Checkpoints(stopped, keep=0)
    with pytest.raises(ValueError, match="has no optimizer"):
        Checkpoints(stopped).save(keras.Sequential([keras.Input((1,))]), 1)


def test_bfloat16_weights_come_back_exactly(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16")]
    )
    model.compile("adam", "mse")
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    Checkpoints(tmp_path).save(model, 3)
    for weight in model.weights:
        weight.assign(keras.ops.ones_like(weight))
    assert Checkpoints(tmp_path).restore(model) == 3
    for weight, old in zip(model.weights, before, strict=True):
        assert weight.dtype == "bfloat16"
        assert (keras.ops.convert_to_numpy(weight) == old).all()
