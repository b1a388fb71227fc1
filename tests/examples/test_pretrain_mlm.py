"""The pretraining example learns, resumes exactly, and writes what the zoo loads."""

import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import zoo
from bert4keras3.training.checkpoints import Checkpoints

SCRIPT = Path(__file__).parents[2] / "examples" / "pretrain_mlm.py"
SENTENCE = "我们 今天 去 公园 散步 ， 明天 在 家里 看书 。"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("pretrain_mlm", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def smoke(example, folder, *more):
    arguments = ["--smoke", "--no-xla", "--output", str(folder), *more]
    return example.main(arguments)


def test_resuming_equals_not_stopping(example, tmp_path, monkeypatch):
    unbroken = smoke(example, tmp_path / "unbroken").get_weights()

    save = Checkpoints.save

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoints, "save", save_and_stop)
        smoke(example, tmp_path / "broken")
    assert Checkpoints(tmp_path / "broken").steps == (10,)
    resumed = smoke(example, tmp_path / "broken").get_weights()
    for one, two in zip(unbroken, resumed, strict=True):
        np.testing.assert_array_equal(one, two)
    lines = (tmp_path / "broken" / "log.jsonl").read_text("utf-8").splitlines()
    lines = [json.loads(line) for line in lines]
    assert [line["step"] for line in lines] == [10, 20]
    assert 0 < lines[0]["processor_seconds"] < lines[1]["processor_seconds"]
    with pytest.raises(ValueError, match="learning_rate"):
        smoke(example, tmp_path / "broken", "--learning-rate", "0.5")


def test_it_learns_from_any_corpus(example, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    with gzip.open(text / "a.txt.gz", "wt", encoding="utf-8") as stream:
        for number in range(3000):
            stream.write(f"{SENTENCE} {number}\n")
    sizes = ["num_layers=1", "hidden_dim=32", "intermediate_dim=64", "key_dim=16"]
    run = tmp_path / "run"
    arguments = f"--segmented {text}@2 --steps 60 --save-every 30 --no-xla".split()
    arguments += "--tokens-per-batch 512 --lengths 16:.5,32:.5".split()
    arguments += ["--learning-rate", "0.01", "--token-share", "0.5"]
    example.main([*arguments, "--output", str(run), "--override", *sizes])
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line) for line in lines]
    assert [line["step"] for line in lines] == [30, 60]
    assert lines[1]["loss"] < lines[0]["loss"]
    assert lines[1]["text_loss"] < np.log(12000) / 2
    loaded = zoo.load(run / "model-60", task="masked_lm")
    assert loaded.backbone.count_params() < 500_000
    assert len(loaded.fill("今天去公[MASK]散步。", top_k=2)[0]) == 2


def test_without_data_it_says_what_to_give(example, capsys):
    with pytest.raises(SystemExit):
        example.main([])
    assert "--data, --segmented or --smoke" in capsys.readouterr().err
