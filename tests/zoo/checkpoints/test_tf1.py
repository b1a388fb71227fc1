"""TF1 checkpoints: the fixtures bit for bit, damage, missing parts, memory."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from zoo.checkpoints import (
    CheckpointError,
    CheckpointNotFoundError,
    open_checkpoint,
    write_tf1,
)
from zoo.checkpoints.bundle import Entry, entry_bytes, header_bytes
from zoo.checkpoints.table import build_table
from zoo.checkpoints.tf1 import TF1Checkpoint

MODELS = Path(__file__).parents[2] / "golden" / "models"
CASES = sorted(path.parent for path in MODELS.glob("*/bert_model.ckpt.index"))
WITH_VALUES = [case for case in CASES if (case / "variables.npz").exists()]
assert len(CASES) == 8 and len(WITH_VALUES) == 7


@pytest.fixture
def prefix(tmp_path):
    """A copy of a released-layout folder that a test may damage."""
    shutil.copytree(MODELS / "gau_alpha", tmp_path / "copy")
    for path in (tmp_path / "copy").iterdir():
        path.chmod(0o644) if path.is_file() else None
    return tmp_path / "copy" / "bert_model.ckpt"


def index_of(prefix):
    return prefix.with_name(prefix.name + ".index")


def data_of(prefix):
    return prefix.with_name(prefix.name + ".data-00000-of-00001")


def write_index(prefix, entries, header=None):
    """An index with a right checksum and whatever content."""
    items = [(b"", header_bytes(1) if header is None else header)]
    items += [(name.encode(), value) for name, value in sorted(entries.items())]
    index_of(prefix).write_bytes(build_table(items))


@pytest.mark.parametrize("case", WITH_VALUES, ids=lambda path: path.name)
def test_every_variable_of_the_fixtures(case):
    with np.load(case / "variables.npz") as expected, open_checkpoint(case) as found:
        assert found.format == "tf1"
        names = [name.replace("|", "/") for name in expected.files]
        assert sorted(names) == list(found.variables) and names
        for name in names:
            array, true = found.read(name), expected[name.replace("/", "|")]
            info = found.variables[name]
            assert (info.shape, info.dtype) == (true.shape, true.dtype)
            assert (array.shape, array.dtype) == (true.shape, true.dtype)
            assert array.tobytes() == true.tobytes()
            assert array.flags.writeable and array.flags.c_contiguous


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_checksums_of_the_fixtures(case):
    with open_checkpoint(case) as checkpoint:
        assert checkpoint.verify() is True


def test_extra_variables_are_listed_as_stored():
    case = MODELS / "roformer_extra_variables"
    shapes = json.loads((case / "case.json").read_text("utf-8"))["all"]
    with open_checkpoint(case) as found, open_checkpoint(MODELS / "roformer") as plain:
        sizes = {name: list(info.shape) for name, info in found.variables.items()}
        # The listing leaves out what the synthetic saver added beside its rule.
        assert shapes.items() <= sizes.items()
        assert found.read("global_step").dtype == np.int64
        assert found.read("global_step").shape == ()
        for name in plain.variables:
            np.testing.assert_array_equal(found.read(name), plain.read(name))


def test_reading_imports_no_framework():
    # An empty `zoo` in front of the real one: that one imports Keras.
    code = (
        "import sys, types; sys.modules['zoo'] = zoo = types.ModuleType('zoo')\n"
        "zoo.__path__ = ['zoo']\n"
        "from zoo.checkpoints import open_checkpoint\n"
        f"c = open_checkpoint({str(MODELS / 'gau_alpha')!r})\n"
        "for name in c.variables: c.read(name)\n"
        "c.verify(); c.close()\n"
        "bad = {'tensorflow', 'torch', 'keras', 'jax', 'h5py', 'mmap'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    root = MODELS.parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root
    )
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


def test_one_tensor_of_memory_at_a_time(tmp_path):
    kernels = {f"layer_{i}": np.full((1024, 1024), i, "float32") for i in range(4)}
    write_tf1(tmp_path / "model.ckpt", kernels)
    size = kernels.pop("layer_0").nbytes
    del kernels
    with open_checkpoint(tmp_path / "model.ckpt") as checkpoint:
        tracemalloc.start()
        try:
            for name in checkpoint.variables:
                array = checkpoint.read(name)
                del array
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size <= peak < 1.1 * size


def test_unknown_name_offers_a_near_one():
    with (
        open_checkpoint(MODELS / "gau_alpha") as checkpoint,
        pytest.raises(CheckpointError, match="Did you mean 'bert/embeddings/word_emb"),
    ):
        checkpoint.read("bert/embeddings/word_embedding")


def test_reading_after_close_is_refused():
    checkpoint = open_checkpoint(MODELS / "gau_alpha")
    name = next(iter(checkpoint.variables))
    checkpoint.close()
    for action in (lambda: checkpoint.read(name), checkpoint.verify):
        with pytest.raises(CheckpointError, match="closed"):
            action()


def test_missing_data_file_is_named(prefix):
    data_of(prefix).unlink()
    with pytest.raises(CheckpointNotFoundError, match="data-00000-of-00001 is missing"):
        open_checkpoint(prefix)
    with pytest.raises(FileNotFoundError, match="290816 bytes"):
        open_checkpoint(prefix.parent)


def test_missing_index_is_named(prefix):
    index_of(prefix).unlink()
    for path in (prefix, prefix.parent):
        with pytest.raises(
            CheckpointNotFoundError, match=r"ckpt\.index does not exist"
        ):
            open_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 1, 290815])
def test_truncated_data_file(prefix, kept):
    data_of(prefix).write_bytes(data_of(prefix).read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"expected 290816 bytes, found {kept}"):
        open_checkpoint(prefix)


def test_data_file_that_shrinks_while_open(prefix):
    with open_checkpoint(prefix) as checkpoint:
        last = list(checkpoint.variables)[-1]
        with open(data_of(prefix), "r+b") as file:
            file.truncate(200_000)
        with pytest.raises(CheckpointError, match="ends too early"):
            checkpoint.read(last)


def test_flipped_bit_in_the_data_is_found_by_verify(prefix):
    data = bytearray(data_of(prefix).read_bytes())
    data[-1] ^= 4
    data_of(prefix).write_bytes(data)
    with (
        open_checkpoint(prefix) as checkpoint,
        pytest.raises(CheckpointError, match="checksum of 'bert/embeddings/word_emb"),
    ):
        checkpoint.verify()


def test_every_truncation_of_the_index_is_refused(prefix):
    whole = index_of(prefix).read_bytes()
    for kept in range(len(whole)):
        index_of(prefix).write_bytes(whole[:kept])
        with pytest.raises(CheckpointError, match="index"):
            TF1Checkpoint(prefix)


@pytest.mark.parametrize("pattern", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_of_the_index(prefix, pattern):
    whole = index_of(prefix).read_bytes()
    with TF1Checkpoint(prefix) as checkpoint:
        right = checkpoint.variables
    harmless = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= pattern
        index_of(prefix).write_bytes(flipped)
        try:
            with TF1Checkpoint(prefix) as checkpoint:
                # Only bytes that mean nothing may change: the metaindex block and
                # its handle, which hold no filter, and the padding of the footer.
                assert checkpoint.variables == right
                harmless += 1
        except CheckpointError:
            pass
    assert harmless < 60


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        (b"\x08\x07\x12\x00\x28\x04", "holds no numbers but string"),
        (b"\x08\x63\x12\x00\x28\x04", "type number 99"),
        (b"\x12\x00\x28\x04", "type number 0"),
        (b"\x08\x01\x12\x00\x28\x05", "needs 4 bytes, the index says 5"),
        (b"\x08\x01\x12\x00\x28\x04\x3a\x00", "stored in slices"),
        (b"\x08\x01\x12\x00\x18\x01\x28\x04", "of data file 1, and there are 1"),
        (b"\x08\x01\x12\x00\x20" + b"\xff" * 9 + b"\x01\x28\x04", "at byte -1"),
        (b"\x08\x01\x12\x00\x20" + b"\xff" * 8 + b"\x7f\x28\x04", "is truncated"),
        (b"\x08\x01\x12\x00\x28" + b"\xff" * 11, "damaged: a number exceeds"),
        (b"\x08\x01\x12\x00\x28", "damaged: a number is cut off"),
        (b"\x08\x01\x12\x05\x28\x04", "damaged: a field reaches over"),
        (b"\x08\x01\x0b\x28\x04", "wire type 3"),
        (b"\x0a\x01\x01\x12\x00\x28\x04", "damaged: a number was expected"),
        (b"\x08\x01\x10\x00\x28\x04", "damaged: a message was expected"),
        (b"\x08\x01\x12\x02\x18\x01\x28\x04", "its shape is unknown"),
        (
            b"\x08\x01\x12\x0d\x12\x0b\x08" + b"\xff" * 9 + b"\x01\x28\x04",
            "the dimension -1",
        ),
        (
            b"\x08\x01\x12\x0c\x12\x0a\x08" + b"\xff" * 8 + b"\x7f\x28\x04",
            "more than any model has",
        ),
        (b"\x08\x01\x12\x84\x01" + b"\x12\x02\x08\x01" * 33 + b"\x28\x04", "33 dimen"),
    ],
)
def test_hostile_entries(prefix, entry, match):
    write_index(prefix, {"bad": entry})
    with pytest.raises(CheckpointError, match=match) as caught:
        TF1Checkpoint(prefix)
    assert str(prefix) in str(caught.value)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"", "claims 0 data files"),
        (b"\x08\xff\xff\xff\x7f", "data files, expected 1"),
        (b"\x08\x01\x10\x01", "big-endian"),
        (b"\x08", "the header is damaged"),
    ],
)
def test_hostile_headers(prefix, header, match):
    write_index(prefix, {}, header)
    with pytest.raises(CheckpointError, match=match):
        TF1Checkpoint(prefix)


def test_index_without_header(prefix):
    index_of(prefix).write_bytes(build_table([(b"kernel", b"\x08\x01")]))
    with pytest.raises(CheckpointError, match="has no header"):
        TF1Checkpoint(prefix)
    index_of(prefix).write_bytes(build_table([]))
    with pytest.raises(CheckpointError, match="has no header"):
        TF1Checkpoint(prefix)


def test_name_that_is_not_utf8(prefix):
    items = [(b"", header_bytes(1)), (b"\xff\xfe", b"\x08\x01\x12\x00\x28\x04")]
    index_of(prefix).write_bytes(build_table(items))
    with pytest.raises(CheckpointError, match="not in UTF-8"):
        TF1Checkpoint(prefix)


def test_several_data_files(tmp_path):
    prefix = tmp_path / "model.ckpt"
    arrays = {
        "a": np.arange(3, dtype="int32"),
        "b": np.ones((2, 2), "float32"),
        "c": np.zeros((0, 4), "float16"),
    }
    places = {"a": (0, 4), "b": (2, 0), "c": (1, 0)}
    sizes = [16, 0, 16]
    shards = [bytearray(size) for size in sizes]
    entries = {}
    for name, array in arrays.items():
        shard, offset = places[name]
        shards[shard][offset : offset + array.nbytes] = array.tobytes()
        entries[name] = entry_bytes(
            Entry(array.dtype, array.shape, shard, offset, array.nbytes, 1)
        )
    write_index(prefix, entries, header_bytes(3))
    for number, content in enumerate(shards):
        path = prefix.with_name(f"model.ckpt.data-{number:05d}-of-00003")
        path.write_bytes(content)
    with open_checkpoint(prefix) as checkpoint:
        assert len(checkpoint.files) == 4
        for name, array in arrays.items():
            np.testing.assert_array_equal(checkpoint.read(name), array)
        with pytest.raises(CheckpointError, match="checksum of 'a'"):
            checkpoint.verify()
    prefix.with_name("model.ckpt.data-00001-of-00003").unlink()
    with pytest.raises(CheckpointNotFoundError, match="data-00001-of-00003 is missing"):
        open_checkpoint(prefix)
