"""The pretraining example learns, resumes exactly, and writes what the zoo loads."""

import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import zoo

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

    keep = example.save

    def keep_once_and_stop(*arguments):
        keep(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(example, "save", keep_once_and_stop)
        smoke(example, tmp_path / "broken")
    assert (tmp_path / "broken" / "step").read_text() == "10"
    resumed = smoke(example, tmp_path / "broken", "--resume").get_weights()
    for one, two in zip(unbroken, resumed, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    names = {path.name for path in (tmp_path / "broken").iterdir()}
    assert names == {"latest.weights.h5", "step", "log.jsonl", "model-20"}


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
    scores = [json.loads(line)["held_out"]["text"] for line in lines]
    assert [json.loads(line)["step"] for line in lines] == [30, 60]
    assert scores[1]["loss"] < scores[0]["loss"] < np.log(12000)
    loaded = zoo.load(run / "model-60", task="masked_lm")
    assert loaded.backbone.count_params() < 500_000
    assert len(loaded.fill("今天去公[MASK]散步。", top_k=2)[0]) == 2


def test_without_data_it_says_what_to_give(example, capsys):
    with pytest.raises(SystemExit):
        example.main([])
    assert "--data, --segmented or --smoke" in capsys.readouterr().err
