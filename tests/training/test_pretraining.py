"""Runs that were stopped, killed or damaged go on as if nothing had happened."""

import random
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from killing import kill_when
from pretraining_run import ROUND, STEPS, build_corpus, build_model, losses, run

from bert4keras3.training import checkpoints as module
from bert4keras3.training.checkpoints import Checkpoints
from bert4keras3.training.pretraining import RunLog

TESTS = Path(__file__).parents[1]


def exact(test):
    """Leave out PyTorch, whose generator draws dropout and is in no checkpoint."""
    return pytest.mark.tensorflow(pytest.mark.jax(test))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("corpus") / "c")


@pytest.fixture(scope="module")
def expected(records, tmp_path_factory):
    """What a run that nobody stops logs."""
    return run(records, tmp_path_factory.mktemp("whole"))


class Stop(keras.callbacks.Callback):
    """Ends a run in the middle of a round."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise InterruptedError


def test_the_share_of_the_ceiling_is_logged(tmp_path):
    log = RunLog(tmp_path, 2, ceiling=1e-3)
    log.on_epoch_begin(0)
    log.on_epoch_end(0, {"loss": 1.0})
    (line,) = log.lines
    assert line["step"] == 2 and line["loss"] == 1.0
    assert line["share_of_ceiling"] > 1000  # no step here is as slow as that


def test_a_run_logs_each_round(expected):
    assert [line["step"] for line in expected] == list(range(ROUND, STEPS + 1, ROUND))
    assert len({line["loss"] for line in expected}) == len(expected)


def test_the_loss_falls(records, tmp_path):
    model = build_model(dropout=0.0, accumulation=None, steps=60)
    found = [line["loss"] for line in run(records, tmp_path, 60, model=model, every=10)]
    assert found[-1] < found[0] - 0.2


@exact
def test_a_stopped_run_goes_on_to_the_same_losses(records, expected, tmp_path):
    with pytest.raises(InterruptedError):
        run(records, tmp_path, callbacks=[Stop(3, 0)])
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == (4, 6)  # the newest two
    assert losses(run(records, tmp_path)) == losses(expected)
    assert checkpoints.steps == (10, 12)
    assert losses(run(records, tmp_path)) == losses(expected)  # nothing left to do


def killed(records, folder, seconds):
    """Run in a process of its own and kill it some seconds after its first round."""
    command = (TESTS / "pretraining_run.py", records, folder)
    return kill_when(lambda: list(folder.glob("step-*")), *command, seconds=seconds)


@exact
def test_a_killed_run_goes_on_to_the_same_losses(records, expected, tmp_path):
    assert killed(records, tmp_path, 0.05) == -signal.SIGKILL
    assert losses(run(records, tmp_path)) == losses(expected)


@exact
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_kills_at_random_moments(records, expected, tmp_path):
    draw, ends = random.Random(0), []
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        ends.append(killed(records, folder, draw.uniform(0, 0.6)))
        assert losses(run(records, folder)) == losses(expected)
    assert ends.count(-signal.SIGKILL) >= 10


@exact
def test_seeds_of_dropout_are_part_of_a_checkpoint(tmp_path):
    model = build_model()
    names = [name for name, _ in module._variables(model)]
    assert any("seed" in name for name in names)
    x = {"token_ids": np.array([[2, 6, 7, 8, 3]], "int32")}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, 1)
    first = keras.ops.convert_to_numpy(model(x, training=True))
    second = keras.ops.convert_to_numpy(model(x, training=True))
    assert np.abs(first - second).max() > 1e-3
    checkpoints.restore(model)
    again = keras.ops.convert_to_numpy(model(x, training=True))
    np.testing.assert_array_equal(first, again)
