"""Damaged files of every format: our error or an answer, nothing else, and soon."""

import random

import h5py
import numpy as np
import pytest
import torch_files as build

from zoo.checkpoints import CheckpointError, open_checkpoint, write_safetensors

ARRAYS = {
    "kernel": np.arange(12, dtype="float32").reshape(3, 4),
    "bias": np.ones(4, "float16"),
    "ids": np.array([1, 2], "int64"),
}


def zip_file(path):
    root, storages = build.state_dict(ARRAYS), build.storages_of(ARRAYS)
    path.write_bytes(build.zip_bytes(root, storages))


def legacy_file(path):
    root, storages = build.state_dict(ARRAYS), build.storages_of(ARRAYS)
    sizes = {str(i): array.dtype.itemsize for i, array in enumerate(ARRAYS.values())}
    path.write_bytes(build.legacy_bytes(root, storages, sizes))


def safetensors_file(path):
    write_safetensors(path, ARRAYS)


def layered_h5(path):
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file.attrs["layer_names"] = [b"one"]
        group = file.create_group("one")
        group.attrs["weight_names"] = [name.encode() for name in ARRAYS]
        for name, array in ARRAYS.items():
            group[name] = array


def nested_h5(path):
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        for name, array in ARRAYS.items():
            file[f"a/{name}"] = array


WRITERS = [zip_file, legacy_file, safetensors_file, layered_h5, nested_h5]


def outcome(path, data):
    """The arrays that damaged bytes give, or None when they are refused."""
    path.write_bytes(data)
    try:
        with open_checkpoint(path) as checkpoint:
            return dict(checkpoint.items())
    except CheckpointError as error:
        assert str(path) in str(error)
        return None


@pytest.fixture(params=WRITERS, ids=lambda write: write.__name__)
def damaged(request, tmp_path):
    path = tmp_path / "model"
    request.param(path)
    data = path.read_bytes()
    whole = outcome(path, data)
    assert whole is not None and len(whole) == len(ARRAYS)
    assert b"".join(sorted(array.tobytes() for array in whole.values())) == b"".join(
        sorted(array.tobytes() for array in ARRAYS.values())
    )
    return path, data


def test_every_truncation_is_refused(damaged):
    path, data = damaged
    for kept in range(0, len(data), 3 if len(data) < 2000 else 31):
        assert outcome(path, data[:kept]) is None


@pytest.mark.parametrize("pattern", [0x01, 0x80, 0xFF])
def test_every_flipped_byte(damaged, pattern):
    path, data = damaged
    refused = 0
    # The three patterns meet every third byte of a small file, so all together.
    for position in range(pattern % 3, len(data), 3 if len(data) < 2000 else 15):
        flipped = bytearray(data)
        flipped[position] ^= pattern
        refused += outcome(path, flipped) is None
    assert refused > 20


def test_several_random_bytes(damaged):
    path, data = damaged
    chance = random.Random(0)
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            value = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
            changed[chance.randrange(len(data))] = value
        outcome(path, changed)


def test_noise_behind_every_signature(tmp_path):
    chance = random.Random(1)
    starts = [b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x02", b"\x02" + b"\0" * 7]
    starts.append(build.pickled(build.LEGACY_MAGIC))
    for start in starts:
        for name in ("model.bin", "model.h5", "model.safetensors"):
            for _ in range(30):
                noise = chance.randbytes(chance.randrange(300))
                assert outcome(tmp_path / name, start + noise) is None
