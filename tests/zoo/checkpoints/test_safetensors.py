"""Safetensors: both ways against the library, headers that lie, full disks."""

import errno
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from zoo.checkpoints import (
    CheckpointError,
    CheckpointNotFoundError,
    open_checkpoint,
    write_safetensors,
)
from zoo.checkpoints import replacing as replacing_module
from zoo.checkpoints.safetensors import SafetensorsCheckpoint

MIRRORS = sorted((Path(__file__).parents[2] / "golden" / "torch").iterdir())
assert MIRRORS
ARRAYS = {
    "mask": np.array([True, False, True]),
    "half": np.array([[1.5, np.nan]], "float16"),
    "kernel": np.arange(12, dtype="float32").reshape(3, 4).T,
    "scalar": np.array(3, "int64"),
    "empty": np.zeros((0, 7), "float64"),
    "brain": np.array([1.5, -3.0], ml_dtypes.bfloat16),
    "double": np.array([1e-300], "float64"),
    "bytes": np.array([1, 255], "uint8"),
    '变量 "quoted"': np.array([-5], "int8"),
    "big_endian": np.array([1.0, 2.0], ">f4"),
    "unsigned": np.array([1], "uint32"),
}


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return size.to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("folder", MIRRORS, ids=lambda path: path.name)
def test_fixture_equals_the_library(folder):
    path = folder / "model.safetensors"
    expected = load_file(path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "safetensors"
        assert set(checkpoint.variables) == set(expected)
        for name, array in expected.items():
            found = checkpoint.read(name)
            assert found.dtype == array.dtype
            assert found.flags.writeable and found.flags.c_contiguous
            np.testing.assert_array_equal(found, array)
        assert checkpoint.verify() is False  # the format has no checksums


def test_library_reads_what_we_write(tmp_path):
    path = write_safetensors(tmp_path / "m.safetensors", ARRAYS, metadata={"a": "b"})
    with safe_open(path, "np") as opened:
        assert opened.metadata() == {"a": "b"}
        assert set(opened.keys()) == set(ARRAYS)
        for name, array in ARRAYS.items():
            if name != "brain":  # the library has no numpy dtype for it
                found = opened.get_tensor(name)
                assert found.dtype == array.dtype.newbyteorder("=")
                np.testing.assert_array_equal(found, array)
            else:
                assert opened.get_slice(name).get_dtype() == "BF16"


def test_we_read_what_the_library_writes(tmp_path):
    arrays = {
        name: np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        for name, array in ARRAYS.items()
        if name not in ("brain", "scalar")
    }
    save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "np"})
    with SafetensorsCheckpoint(tmp_path / "m.safetensors") as checkpoint:
        assert checkpoint.metadata == {"format": "np"}
        for name, array in arrays.items():
            np.testing.assert_array_equal(checkpoint.read(name), array)


def test_round_trip(tmp_path):
    path = write_safetensors(tmp_path / "m.safetensors", ARRAYS)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.path == path and set(checkpoint.variables) == set(ARRAYS)
        for name, array in ARRAYS.items():
            found = checkpoint.read(name)
            assert found.dtype == array.dtype.newbyteorder("=")
            assert found.shape == array.shape
            np.testing.assert_array_equal(found, array)
    # Every tensor is aligned to the size of its elements.
    text = path.read_bytes()
    begin = 8 + int.from_bytes(text[:8], "little")
    header = json.loads(text[8:begin])
    for name, array in ARRAYS.items():
        offset = header[name]["data_offsets"][0]
        assert (begin + offset) % array.dtype.itemsize == 0


def test_callables_in_order(tmp_path):
    path = tmp_path / "m.safetensors"
    pairs = ((f"v{i}", lambda i=i: np.full((2, 2), i, "float32")) for i in range(5))
    write_safetensors(path, pairs)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.variables) == [f"v{i}" for i in range(5)]
        assert [checkpoint.read(f"v{i}")[0, 0] for i in range(5)] == [0, 1, 2, 3, 4]


def test_callable_that_changes_its_mind(tmp_path):
    shapes = iter([(2, 2), (3, 3)])
    with pytest.raises(CheckpointError, match="the same tensor each time"):
        write_safetensors(
            tmp_path / "m.safetensors", {"a": lambda: np.ones(next(shapes))}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", [False, True])
def test_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, existing):
    path = tmp_path / "m.safetensors"
    if existing:
        write_safetensors(path, {"old": np.ones(3)})
    before = {other.name: other.read_bytes() for other in tmp_path.iterdir()}

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(replacing_module.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_safetensors(path, ARRAYS)
    assert {other.name: other.read_bytes() for other in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ({"a": np.ones(1, "complex64")}, "expected numbers"),
        ({"a": np.ones(1, "longdouble")}, "cannot hold"),
        ({"a": np.array(["x"])}, "expected numbers"),
        ([("a", np.ones(1)), ("a", np.ones(1))], "comes twice"),
    ],
)
def test_bad_variables(tmp_path, variables, match):
    with pytest.raises(CheckpointError, match=match):
        write_safetensors(tmp_path / "m.safetensors", variables)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "ends too early"),
        (b"\x10\0\0\0", "ends too early"),
        (file_of(b"{}", length=0), "header of 0 bytes"),
        (file_of(b"{}", length=3), "header of 3 bytes"),
        (file_of(b"{}", length=(1 << 64) - 1), "at most 100000000"),
        (file_of(b"{]"), "cannot be read"),
        (file_of(b"\xff\xfe"), "cannot be read"),
        (file_of(b"[" * 200_000), "cannot be read"),
        (file_of(b'{"a":' * 100_000), "cannot be read"),
        (file_of(b'{"a": 1' + b"0" * 5000 + b"}"), "cannot be read"),
        (file_of(b"[]"), "no JSON object"),
        (file_of(b'{"a": {}, "a": {}}'), "a name comes twice"),
        (file_of({"__metadata__": {"a": 1}}), "must map names to strings"),
        (file_of({"__metadata__": 3}), "must map names to strings"),
        (file_of({"a": 3}), "must have exactly"),
        (file_of({"a": {}}), "must have exactly"),
        (file_of({"a": {**entry(), "more": 1}}, bytes(4)), "must have exactly"),
        (file_of({"a": entry(offsets=(0, 4, 4))}, bytes(4)), "must have exactly"),
        (file_of({"a": entry(offsets=("0", 4))}, bytes(4)), "must have exactly"),
        (file_of({"a": entry(offsets=(4, 0))}, bytes(4)), "must have exactly"),
        (file_of({"a": entry(offsets=(-4, 0))}, bytes(4)), "must have exactly"),
        (file_of({"a": entry(offsets=(0, 1 << 70))}, bytes(4)), "within the 4 bytes"),
        (file_of({"a": entry(offsets=(0.0, 4.0))}, bytes(4)), "must have exactly"),
        (file_of({"a": entry(dtype="F8_E4M3")}, bytes(4)), "known are BOOL"),
        (file_of({"a": entry(dtype="")}, bytes(4)), "known are BOOL"),
        (file_of({"a": entry(shape=(-1,))}, bytes(4)), "dimension -1"),
        (file_of({"a": entry(shape=(1.0,))}, bytes(4)), "of type float"),
        (file_of({"a": entry(shape=(True,))}, bytes(4)), "of type bool"),
        (file_of({"a": entry(shape=("1",))}, bytes(4)), "of type str"),
        (file_of({"a": entry(shape=(1 << 62, 8))}, bytes(4)), "more than any"),
        (file_of({"a": entry(shape=(0, 1 << 62))}, bytes(4)), "more than any"),
        (file_of({"a": entry(shape=(10**400,))}, bytes(4)), "more than 64 bits"),
        (file_of({"a": entry(shape=(1,) * 40)}, bytes(4)), "40 dimensions"),
        (file_of({"a": entry(shape=(2,))}, bytes(4)), "needs 8 bytes"),
        (file_of({"a": entry()}, bytes(3)), "within the 3 bytes"),
        (file_of({"a": entry()}, bytes(5)), "something appended"),
        (file_of({"a": entry(offsets=(4, 8))}, bytes(8)), "begins at byte 4"),
        (file_of({"a": entry(), "b": entry()}, bytes(4)), "overlap"),
        (
            file_of({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
            "'b' begins at byte 8, expected 4",
        ),
    ],
)
def test_headers_that_lie(tmp_path, data, match):
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=match) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


def test_empty_tensors_between_others(tmp_path):
    header = {
        "b": entry(offsets=(0, 4)),
        "a": entry(shape=(0,), offsets=(4, 4)),
        "c": entry(shape=(0, 3), offsets=(0, 0)),
        "d": entry(shape=(), offsets=(4, 8)),
    }
    path = tmp_path / "m.safetensors"
    path.write_bytes(file_of(header, np.array([1, 2], "float32").tobytes()))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read("a").shape == (0,)
        assert checkpoint.read("c").shape == (0, 3)
        assert checkpoint.read("d") == 2


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointNotFoundError):
        SafetensorsCheckpoint(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        SafetensorsCheckpoint(tmp_path)
