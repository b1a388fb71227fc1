"""Writing TF1 checkpoints: byte for byte, whole or not at all, read by TensorFlow."""

import errno
import gc
import weakref
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from zoo.checkpoints import (
    CheckpointError,
    CheckpointNotFoundError,
    open_checkpoint,
    write_tf1,
)
from zoo.checkpoints import replacing as replacing_module

MODELS = Path(__file__).parents[2] / "golden" / "models"
CASES = sorted(path.parent for path in MODELS.glob("*/bert_model.ckpt.index"))
assert CASES
SUFFIXES = (".index", ".data-00000-of-00001")
ARRAYS = {
    "layer/kernel": np.arange(12, dtype="float32").reshape(3, 4).T,  # not contiguous
    "scalar": np.array(3, "int64"),
    "half": np.array([[1.5, np.nan]], "float16"),
    "brain": np.array([1.5, -3.0], ml_dtypes.bfloat16),
    "double": np.array([1e-300], "float64"),
    "int": np.array([-1], "int32"),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 7), "float32"),
    "big_endian": np.array([1.0, 2.0], ">f4"),
    "Z/upper": np.array([1, 2], "uint8"),
    "变量": np.array([-5], "int8"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_same_bytes_as_the_original_saver(case, tmp_path):
    with open_checkpoint(case) as source:
        backwards = [
            (name, lambda name=name: source.read(name))
            for name in reversed(source.variables)
        ]
        prefix = write_tf1(tmp_path / "bert_model.ckpt", backwards)
    for suffix in SUFFIXES:
        original = case / f"bert_model.ckpt{suffix}"
        assert Path(f"{prefix}{suffix}").read_bytes() == original.read_bytes()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"bert_model.ckpt{suffix}" for suffix in SUFFIXES} | {"checkpoint"}


def test_round_trip_of_every_dtype(tmp_path):
    write_tf1(tmp_path / "model.ckpt", ARRAYS)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.verify() is True
        assert set(checkpoint.variables) == set(ARRAYS)
        for name, array in ARRAYS.items():
            found = checkpoint.read(name)
            assert found.dtype == array.dtype.newbyteorder("=")
            assert found.shape == array.shape
            np.testing.assert_array_equal(found, array)


def test_state_file_is_relative(tmp_path):
    write_tf1(tmp_path / 'a"b\\c', {"x": np.ones(1)})
    text = (tmp_path / "checkpoint").read_text("utf-8")
    assert text.splitlines() == [
        r'model_checkpoint_path: "a\"b\\c"',
        r'all_model_checkpoint_paths: "a\"b\\c"',
    ]


@pytest.mark.tensorflow
def test_tensorflow_reads_what_we_write(tmp_path):
    tf = pytest.importorskip("tensorflow")
    # Enough variables for several blocks of the index.
    many = {f"many/layer_{i:05d}/kernel": np.full(2, i, "float32") for i in range(6000)}
    arrays = {**ARRAYS, **many}
    prefix = write_tf1(tmp_path / "model.ckpt", arrays)
    reader = tf.train.load_checkpoint(str(prefix))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(prefix)
    shapes = reader.get_variable_to_shape_map()
    assert shapes == {name: list(array.shape) for name, array in arrays.items()}
    for name, array in arrays.items():
        found = reader.get_tensor(name)
        assert found.dtype == array.dtype.newbyteorder("=")
        assert found.tobytes() == array.astype(found.dtype).tobytes()
    names = list(ARRAYS)
    restored = tf.raw_ops.RestoreV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        dtypes=[tf.as_dtype(arrays[name].dtype.newbyteorder("=")) for name in names],
    )
    for name, tensor in zip(names, restored, strict=True):
        native = arrays[name].astype(tensor.numpy().dtype)
        assert tensor.numpy().tobytes() == native.tobytes()


@pytest.mark.tensorflow
def test_we_write_what_tensorflow_writes(tmp_path):
    tf = pytest.importorskip("tensorflow")
    arrays = {
        f"layer_{i:05d}/kernel": np.full((i % 3, 2), i, "float32") for i in range(9000)
    }
    names = sorted(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[arrays[name] for name in names],
    )
    write_tf1(tmp_path / "ours", arrays)
    for suffix in SUFFIXES:
        ours = (tmp_path / f"ours{suffix}").read_bytes()
        theirs = (tmp_path / f"theirs{suffix}").read_bytes()
        assert ours == theirs
    with open_checkpoint(tmp_path / "theirs") as checkpoint:
        assert checkpoint.verify() is True
        assert list(checkpoint.variables) == names


def test_callables_are_called_one_after_the_other(tmp_path):
    alive = []

    def make(value):
        def tensor():
            gc.collect()
            alive.append(sum(ref() is not None for ref in references))
            array = np.full((256, 256), value, "float32")
            references.append(weakref.ref(array))
            return array

        return tensor

    references = []
    write_tf1(tmp_path / "m.ckpt", ((f"v{i}", make(i)) for i in range(5)))
    assert len(alive) == 5 and max(alive) <= 1
    with open_checkpoint(tmp_path / "m.ckpt") as checkpoint:
        assert [checkpoint.read(f"v{i}")[0, 0] for i in range(5)] == [0, 1, 2, 3, 4]


class FullDisk:
    """A file on which the disk is full after so many bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("broken", [".data-00000-of-00001", "checkpoint", ".index"])
@pytest.mark.parametrize("existing", [False, True])
def test_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, broken, existing):
    prefix = tmp_path / "model.ckpt"
    if existing:
        write_tf1(prefix, {"old": np.ones(3)})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    create = replacing_module._create

    def create_on_full_disk(path):
        file = create(path)
        return FullDisk(file, 10) if broken in path.name else file

    monkeypatch.setattr(replacing_module, "_create", create_on_full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_tf1(prefix, ARRAYS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_failing_callable_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("out of weights")

    with pytest.raises(RuntimeError, match="out of weights"):
        write_tf1(tmp_path / "m.ckpt", [("a", np.ones(3)), ("b", fail)])
    assert list(tmp_path.iterdir()) == []


def test_interrupted_replacement_is_never_a_mixture(tmp_path, monkeypatch):
    prefix = tmp_path / "m.ckpt"
    write_tf1(prefix, {"a": np.zeros(4, "float32")})

    def fail(part, target):
        raise OSError(errno.EIO, "the power went")

    monkeypatch.setattr(replacing_module.os, "replace", fail)
    with pytest.raises(OSError, match="power"):
        write_tf1(prefix, {"a": np.ones(4, "float32")})
    monkeypatch.undo()
    # Old data without its index: refused by name instead of read wrongly.
    with pytest.raises(CheckpointNotFoundError, match=r"m\.ckpt\.index"):
        open_checkpoint(prefix)


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ([("a", np.ones(1)), ("a", np.ones(1))], "comes twice"),
        ({"": np.ones(1)}, "must be a string"),
        ({3: np.ones(1)}, "must be a string, got 3"),
        ({"a": np.array(["text"])}, "expected numbers"),
        ({"a": np.array([None])}, "expected numbers"),
        ({"a": np.ones(1, "longdouble")}, "cannot be written"),
        ({"a": np.ones(1, "complex64")}, "expected numbers"),
    ],
)
def test_bad_variables(tmp_path, variables, match):
    with pytest.raises(CheckpointError, match=match):
        write_tf1(tmp_path / "m.ckpt", variables)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="folder .* does not exist"):
        write_tf1(tmp_path / "missing" / "m.ckpt", {"a": np.ones(1)})
