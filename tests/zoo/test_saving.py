"""Writing released layouts back, and reading them with other people's readers."""

import errno
import json
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo import saving
from zoo.checkpoints import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = GOLDEN / "models"
CASES = ["gau_alpha", "roformer", "roformer_v2", "roformer_sim", "roformer_factorized"]


def load(case, **arguments):
    if case == "roformer_sim":
        arguments = {"attention": "prefix", "pooler": "linear", **arguments}
    return zoo.load(MODELS / case, task="masked_lm", **arguments)


def weights(model):
    ops = keras.ops
    return {
        w.path: ops.convert_to_numpy(ops.convert_to_tensor(w)) for w in model.weights
    }


@pytest.mark.parametrize("case", CASES)
def test_tf1_layout_is_what_was_released(case, tmp_path):
    """Same variables, same bytes, same vocabulary, a config that says the same."""
    folder = zoo.save(load(case), tmp_path / "out")
    released = MODELS / case
    with np.load(released / "variables.npz") as stored, open_checkpoint(folder) as ours:
        expected = {name.replace("|", "/"): stored[name] for name in stored.files}
        assert set(ours.variables) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(ours.read(name), value)
        assert ours.verify()
    data = "bert_model.ckpt.data-00000-of-00001"
    assert (folder / data).read_bytes() == (released / data).read_bytes()
    assert (folder / "vocab.txt").read_bytes() == (released / "vocab.txt").read_bytes()
    said = json.loads((folder / "bert_config.json").read_text())
    for key, value in json.loads((released / "bert_config.json").read_text()).items():
        if key in said:
            assert said[key] == value
    reloaded = load(case) if case != "roformer_sim" else None
    again = zoo.load(folder, task="masked_lm")
    if reloaded is not None:
        for path, value in weights(again).items():
            np.testing.assert_array_equal(value, weights(reloaded)[path])


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", CASES)
def test_tensorflow_reads_what_we_wrote(case, tmp_path):
    """bert4keras reads a checkpoint with `tf.train.load_variable`."""
    import tensorflow as tf

    folder = zoo.save(load(case), tmp_path / "out")
    prefix = str(folder / "bert_model.ckpt")
    assert tf.train.latest_checkpoint(str(folder)) == prefix
    with np.load(MODELS / case / "variables.npz") as stored:
        for name in stored.files:
            np.testing.assert_array_equal(
                tf.train.load_variable(prefix, name.replace("|", "/")), stored[name]
            )


@pytest.mark.parametrize("case", CASES)
def test_safetensors_layout_reads_back(case, tmp_path):
    model = load(case)
    folder = zoo.save(model, tmp_path / "out", format="safetensors")
    again = zoo.load(folder, task="masked_lm")
    expected = weights(model)
    for path, value in weights(again).items():
        np.testing.assert_array_equal(value, expected[path])
    assert again.backbone.attention == model.backbone.attention


@pytest.mark.parametrize("case", ["gau_alpha", "roformer", "roformer_v2"])
def test_safetensors_names_are_those_of_the_mirror(case, tmp_path):
    folder = zoo.save(load(case), tmp_path / "out", format="safetensors")
    mirror = MODELS / case / "mirror" / "pytorch_model.bin"
    with open_checkpoint(folder) as ours, open_checkpoint(mirror) as theirs:
        tied = {name for name in theirs.variables if ".decoder." in name}
        extra = {name for name in theirs.variables if "embed_positions" in name}
        assert set(ours.variables) == set(theirs.variables) - tied - extra
        for name in ours.variables:
            np.testing.assert_array_equal(ours.read(name), theirs.read(name))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("format", ["tf1", "safetensors"])
def test_half_precision_files(dtype, format, tmp_path):
    model = load("gau_alpha")
    folder = zoo.save(model, tmp_path / "out", format=format, dtype=dtype)
    again = zoo.load(folder)
    for path, value in weights(again).items():
        original = weights(model)[path]
        np.testing.assert_allclose(value, original, rtol=2**-8, atol=1e-4)
        assert value.dtype == np.float32


def test_a_backbone_alone_can_be_saved(tmp_path):
    folder = zoo.save(zoo.load(MODELS / "roformer"), tmp_path / "out")
    with open_checkpoint(folder) as checkpoint:
        assert not any(name.startswith("cls/") for name in checkpoint.variables)
    assert not (folder / "vocab.txt").exists()
    zoo.load(folder)


def test_nothing_is_overwritten(tmp_path):
    model = zoo.load(MODELS / "gau_alpha")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        zoo.save(model, tmp_path / "out")


@pytest.mark.parametrize("format", ["tf1", "safetensors"])
def test_a_full_disk_leaves_nothing(format, tmp_path, monkeypatch):
    model = zoo.load(MODELS / "gau_alpha")

    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "_write_json", full)
    with pytest.raises(OSError, match="No space"):
        zoo.save(model, tmp_path / "out", format=format)
    assert list(tmp_path.iterdir()) == []


def test_unknown_format_and_foreign_model(tmp_path):
    model = zoo.load(MODELS / "gau_alpha")
    with pytest.raises(ValueError, match="tf1"):
        zoo.save(model, tmp_path / "out", format="tf2")
    with pytest.raises(ValueError, match="no released layout"):
        zoo.save(keras.Sequential([keras.layers.Dense(1)]), tmp_path / "out")
    with pytest.raises(ValueError, match="called so"):
        zoo.save(model, tmp_path / "out", format="keras")
    assert list(tmp_path.iterdir()) == []


def test_lora_has_no_place_in_a_release(tmp_path):
    model = zoo.load(MODELS / "gau_alpha")
    model.enable_lora(2)
    with pytest.raises(ValueError, match="lora_kernel_a"):
        zoo.save(model, tmp_path / "out")
