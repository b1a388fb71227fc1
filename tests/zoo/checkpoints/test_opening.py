"""Which checkpoint a path means: prefixes, folders, several formats, several files."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch_files as build

from zoo.checkpoints import (
    CheckpointError,
    CheckpointNotFoundError,
    open_checkpoint,
    write_safetensors,
    write_tf1,
)

GOLDEN = Path(__file__).parents[2] / "golden"
A, B = np.arange(4, dtype="float32"), np.ones((2, 2), "float32")
ARRAYS = {"a": A, "b": B}


def write_torch(path, arrays=ARRAYS):
    root, storages = build.state_dict(arrays), build.storages_of(arrays)
    path.write_bytes(build.zip_bytes(root, storages))


def write_h5(path, arrays=ARRAYS):
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        for name, array in arrays.items():
            file[name] = array


def write_shards(folder, kind="safetensors", **changes):
    """Two files and the list of them; `changes` go into the list."""
    stem, write = {
        "safetensors": ("model", write_safetensors),
        "bin": ("pytorch_model", write_torch),
    }[kind]
    files = [f"{stem}-0000{i}-of-00002.{kind}" for i in (1, 2)]
    write(folder / files[0], {"a": A})
    write(folder / files[1], {"b": B})
    weight_map = {"a": files[0], "b": files[1], **changes}
    path = folder / f"{stem}.{kind}.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "",
        "bert_model.ckpt",
        "bert_model.ckpt.index",
        "bert_model.ckpt.meta",
        "bert_model.ckpt.data-00000-of-00001",
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_every_way_to_name_a_tf1_checkpoint(name, kind):
    folder = GOLDEN / "models" / "gau_alpha"
    with open_checkpoint(kind(folder / name)) as checkpoint:
        assert checkpoint.format == "tf1" and len(checkpoint.variables) == 10
        assert checkpoint.path == folder / "bert_model.ckpt"
        assert "gau_alpha" in repr(checkpoint)


def test_stale_state_file_is_never_followed(tmp_path):
    write_tf1(tmp_path / "other.ckpt", {"wrong": A})
    folder = tmp_path / "released"
    folder.mkdir()
    write_tf1(folder / "bert_model.ckpt", {"right": A})
    stale = f'model_checkpoint_path: "{tmp_path / "other.ckpt"}"\n'
    (folder / "checkpoint").write_text(stale)
    with open_checkpoint(folder) as checkpoint:
        assert list(checkpoint.variables) == ["right"]
    with pytest.raises(CheckpointError, match="never followed"):
        open_checkpoint(folder / "checkpoint")


def test_order_of_formats_in_a_folder(tmp_path):
    writers = {
        "h5": lambda: write_h5(tmp_path / "tf_model.h5"),
        "torch": lambda: write_torch(tmp_path / "pytorch_model.bin"),
        "safetensors": lambda: write_safetensors(
            tmp_path / "model.safetensors", ARRAYS
        ),
        "tf1": lambda: write_tf1(tmp_path / "bert_model.ckpt", ARRAYS),
    }
    for kind, write in writers.items():
        write()
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.format == kind
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(checkpoint.read(name), array)


def test_byproducts_of_training_are_passed_over(tmp_path):
    write_torch(tmp_path / "pytorch_model.bin")
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
        (tmp_path / name).write_bytes(b"\x80\x02}.")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path.name == "pytorch_model.bin"


def test_weights_of_our_own_are_passed_over(tmp_path):
    write_h5(tmp_path / "tf_model.h5")
    write_h5(tmp_path / "own.weights.h5", {"layers/dense/vars/0": A})
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path.name == "tf_model.h5"
    (tmp_path / "tf_model.h5").unlink()
    with pytest.raises(CheckpointError, match="of Keras 3"):
        open_checkpoint(tmp_path)


def test_two_checkpoints_of_a_format_are_listed(tmp_path):
    write_tf1(tmp_path / "one.ckpt", ARRAYS)
    write_tf1(tmp_path / "two.ckpt", ARRAYS)
    with pytest.raises(CheckpointError, match=r"2 .* tf1: one.ckpt.index, two.ckpt.in"):
        open_checkpoint(tmp_path)
    with open_checkpoint(tmp_path / "two.ckpt") as checkpoint:
        assert checkpoint.path.name == "two.ckpt"


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_checkpoint_in_several_files(tmp_path, kind):
    index = write_shards(tmp_path, kind)
    for path in (tmp_path, index):
        with open_checkpoint(path) as checkpoint:
            expected = {"safetensors": "safetensors", "bin": "torch"}[kind]
            assert checkpoint.format == expected
            assert checkpoint.path == index and len(checkpoint.files) == 3
            assert list(checkpoint.variables) == ["a", "b"]
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(checkpoint.read(name), array)
            assert checkpoint.verify() is (kind == "bin")


def test_several_files_beside_a_single_one_are_ambiguous(tmp_path):
    write_shards(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", ARRAYS)
    with pytest.raises(CheckpointError, match="holds 2 checkpoints"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "C:model.safetensors",
        "a\0b",
        3,
        None,
        ["x"],
    ],
)
def test_list_that_leaves_its_folder(tmp_path, file):
    write_safetensors(tmp_path / "secret.safetensors", {"c": A})
    folder = tmp_path / "model"
    folder.mkdir()
    index = write_shards(folder, c=file)
    for path in (folder, index):
        with pytest.raises(CheckpointError, match="in the same folder"):
            open_checkpoint(path)


def test_list_that_disagrees_with_the_files(tmp_path):
    index = write_shards(tmp_path, c="model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="holds 'c', and it does not"):
        open_checkpoint(index)
    write_shards(tmp_path)
    write_safetensors(
        tmp_path / "model-00001-of-00002.safetensors", {"a": A, "extra": A}
    )
    with pytest.raises(CheckpointError, match="'extra', which .* does not list"):
        open_checkpoint(index)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointNotFoundError, match="00001-of-00002.*is missing"):
        open_checkpoint(index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": []}',
        "[" * 100_000,
        "\ud800",
    ],
)
def test_damaged_list(tmp_path, text):
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for target in (path, tmp_path):
        with pytest.raises(CheckpointError, match="no list of checkpoint files"):
            open_checkpoint(target)


def test_list_of_an_unknown_format(tmp_path):
    path = tmp_path / "model.gguf.index.json"
    path.write_text("{}")
    with pytest.raises(CheckpointError, match="unknown format"):
        open_checkpoint(path)


def test_nothing_there(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", ARRAYS)
    with pytest.raises(CheckpointNotFoundError, match=r"holds model\.safetensors"):
        open_checkpoint(tmp_path / "bert_model.ckpt")
    with pytest.raises(CheckpointNotFoundError, match="neither does the folder"):
        open_checkpoint(tmp_path / "missing" / "bert_model.ckpt")


def test_folder_without_a_checkpoint(tmp_path):
    inner = tmp_path / "chinese_model"
    inner.mkdir()
    with pytest.raises(CheckpointNotFoundError, match="perhaps you mean .*chinese_mo"):
        open_checkpoint(tmp_path)
    (inner / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(CheckpointNotFoundError, match="found vocab.txt"):
        open_checkpoint(inner)


@pytest.mark.parametrize(
    "start", [b"", b"hello", b"\x00" * 20, "模型".encode(), b"GIF89a"]
)
def test_file_of_no_known_format(tmp_path, start):
    path = tmp_path / "model.dat"
    path.write_bytes(start)
    with pytest.raises(CheckpointError, match="no known format"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (write_torch, "torch"),
        (lambda path: write_safetensors(path, ARRAYS), "safetensors"),
        (write_h5, "h5"),
    ],
)
def test_content_counts_more_than_the_name(tmp_path, write, kind):
    for name in ("model.h5", "model.bin", "model.safetensors", "weights"):
        write(tmp_path / name)
        with open_checkpoint(tmp_path / name) as checkpoint:
            assert checkpoint.format == kind


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_of_a_download_cache_are_followed(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    index = write_shards(blobs)
    for path in blobs.iterdir():
        target = blobs / f"{abs(hash(path.name)):x}"
        shutil.move(path, target)
        (snapshot / path.name).symlink_to(target)
    with open_checkpoint(snapshot / index.name) as checkpoint:
        assert list(checkpoint.variables) == ["a", "b"]
