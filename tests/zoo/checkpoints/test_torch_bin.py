"""PyTorch files: the fixtures, every dtype, views, and hostile pickles."""

import io
import pickle
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch_files as build

from zoo.checkpoints import CheckpointError, open_checkpoint
from zoo.checkpoints.torch_bin import TorchCheckpoint

GOLDEN = Path(__file__).parents[2] / "golden"
MIRRORS = sorted((GOLDEN / "torch").iterdir())
assert MIRRORS
ARRAYS = {
    "kernel": np.arange(12, dtype="float32").reshape(3, 4),
    "bias": np.array(2.5, "float16"),
    "empty": np.zeros((0, 3), "float32"),
    "ids": np.array([-1, 1 << 40], "int64"),
    "mask": np.array([True, False, True]),
    "brain": np.array([1.5, -3.0], ml_dtypes.bfloat16),
    "double": np.array([[1e-300]], "float64"),
    "bytes": np.array([0, 255], "uint8"),
    "signed": np.array([-128, 127], "int8"),
    "short": np.array([-3], "int16"),
    "int": np.array([7], "int32"),
}
ITEMSIZES = {str(i): a.dtype.itemsize for i, a in enumerate(ARRAYS.values())}


def read(tmp_path, data: bytes) -> dict[str, np.ndarray]:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(data)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "torch"
        arrays = dict(checkpoint.items())
        for name, array in arrays.items():
            info = checkpoint.variables[name]
            assert (info.shape, info.dtype) == (array.shape, array.dtype)
            assert array.flags.c_contiguous and array.flags.writeable
    return arrays


def refuse(tmp_path, data: bytes, match: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=match) as caught:
        TorchCheckpoint(path)
    assert str(path) in str(caught.value)


def both_forms(root, storages, itemsizes):
    return [
        build.zip_bytes(root, storages),
        build.legacy_bytes(root, storages, itemsizes),
    ]


@pytest.mark.parametrize("folder", MIRRORS, ids=lambda path: path.name)
def test_fixture_equals_its_safetensors_twin(folder):
    with (
        open_checkpoint(folder / "pytorch_model.bin") as ours,
        open_checkpoint(folder / "model.safetensors") as twin,
    ):
        assert ours.variables == twin.variables and ours.variables
        for name in ours.variables:
            np.testing.assert_array_equal(ours.read(name), twin.read(name))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_dtype_and_order(tmp_path, legacy):
    root, storages = (
        build.state_dict(ARRAYS, legacy=legacy),
        build.storages_of(ARRAYS),
    )
    data = (
        build.legacy_bytes(root, storages, ITEMSIZES)
        if legacy
        else build.zip_bytes(root, storages)
    )
    arrays = read(tmp_path, data)
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_wrapped_state_dict(tmp_path, key):
    wrapped = {"epoch": 3, "loss": 0.5, key: build.state_dict(ARRAYS), "note": None}
    arrays = read(tmp_path, build.zip_bytes(wrapped, build.storages_of(ARRAYS)))
    assert list(arrays) == list(ARRAYS)


def test_ordered_dict_with_metadata_parameters_and_sizes(tmp_path):
    numbers = np.arange(6, dtype="float32")
    source = build.storage("0", "float32", 6)
    inner = build.tensor(source, (2, 3))
    shape = build.Call(build.Name("torch", "Size"), ((2, 3),))
    inner.arguments = (source, 0, shape, (3, 1), True, inner.arguments[5])
    parameter = build.Call(
        build.Name("torch._utils", "_rebuild_parameter"),
        (inner, True, inner.arguments[5]),
    )
    root = build.Raw(
        build.opcodes(build.Call(build.Name("collections", "OrderedDict"), ()))
        + b"("
        + build.opcodes("kernel")
        + build.opcodes(parameter)
        + b"u"
        + build.opcodes({"_metadata": {"": {"version": 1}}})
        + b"b"
    )
    arrays = read(tmp_path, build.zip_bytes(root, {"0": numbers.tobytes()}))
    np.testing.assert_array_equal(arrays["kernel"], numbers.reshape(2, 3))


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((4, 3), (1, 4), 0),  # transposed
        ((2, 3), (6, 2), 1),  # every second element
        ((5,), (1,), 7),
        ((3, 1, 2), (4, 99, 1), 0),  # the stride of a dimension of 1 is never used
        ((2, 2, 2), (1, 4, 2), 3),
        ((2, 3), (0, 1), 4),  # a row repeated
        ((), (), 11),
        ((0, 5), (7, 1), 0),
    ],
)
def test_views_of_a_shared_storage(tmp_path, shape, stride, offset):
    numbers = np.arange(12, dtype="float32")
    expected = np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [4 * step for step in stride]
    )
    source = build.storage("0", "float32", 12)
    root = {
        "view": build.tensor(source, shape, offset=offset, stride=stride),
        "whole": build.tensor(source, (3, 4)),
    }
    for data in both_forms(root, {"0": numbers.tobytes()}, {"0": 4}):
        arrays = read(tmp_path, data)
        np.testing.assert_array_equal(arrays["view"], expected)
        np.testing.assert_array_equal(arrays["whole"], numbers.reshape(3, 4))


def test_view_of_a_storage_in_an_old_file(tmp_path):
    numbers = np.arange(12, dtype="float32")
    source = build.storage("0", "float32", 12, view=("0v", 4, 6), legacy=True)
    root = {"view": build.tensor(source, (5,), offset=1)}
    data = build.legacy_bytes(root, {"0": numbers.tobytes()}, {"0": 4})
    np.testing.assert_array_equal(read(tmp_path, data)["view"], numbers[5:10])
    root = {"view": build.tensor(source, (6,), offset=1)}  # one beyond the view
    data = build.legacy_bytes(root, {"0": numbers.tobytes()}, {"0": 4})
    refuse(tmp_path, data, "does not fit into its storage of 6 elements")


def test_reading_after_close_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(
        build.zip_bytes(build.state_dict(ARRAYS), build.storages_of(ARRAYS))
    )
    checkpoint = TorchCheckpoint(path)
    checkpoint.close()
    with pytest.raises(CheckpointError, match="closed"):
        checkpoint.read("kernel")


def test_verify_finds_a_flipped_bit(tmp_path):
    data = bytearray(
        build.zip_bytes(build.state_dict(ARRAYS), build.storages_of(ARRAYS))
    )
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    with TorchCheckpoint(path) as checkpoint:
        assert checkpoint.verify() is True
    data[data.index(ARRAYS["kernel"].tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with (
        TorchCheckpoint(path) as checkpoint,
        pytest.raises(CheckpointError, match="checksum of storage '0'"),
    ):
        checkpoint.verify()


class Flag:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def eval_call(flag):
    code = f"open({str(flag)!r}, 'w').close()"
    return build.Call(build.Name("builtins", "eval"), (code,))


def system_call(flag):
    return build.Call(build.Name("os", "system"), (f"touch {flag}",))


def posix_call(flag):
    return build.Call(build.Name("posix", "system"), (f"touch {flag}",))


def dotted_call(flag):
    name = build.Raw(
        build.opcodes("torch._utils")
        + build.opcodes("_rebuild_tensor_v2.__globals__")
        + b"\x93"
    )
    return build.Call(name, (str(flag),))


def numpy_call(flag):
    name = build.Name("numpy.core.multiarray", "_reconstruct")
    return build.Call(name, (build.Name("numpy", "ndarray"), (0,), "b"))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (eval_call, "builtins.eval"),
        (system_call, "os.system"),
        (posix_call, "posix.system"),
        (dotted_call, "torch._utils._rebuild_tensor_v2.__globals__"),
        (numpy_call, "numpy.core.multiarray._reconstruct"),
    ],
)
def test_calls_are_refused_and_not_made(tmp_path, make, named):
    flag = tmp_path / "executed"
    arrays = {"kernel": ARRAYS["kernel"]}
    root = {**build.state_dict(arrays), "bad": make(flag)}
    for data in both_forms(root, build.storages_of(arrays), {"0": 4}):
        refuse(tmp_path, data, f"asks for {named}")
        assert not flag.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_real_malicious_pickle_is_not_run(tmp_path, protocol):
    flag = tmp_path / "executed"
    hostile = pickle.dumps({"a": Flag(flag)}, protocol=protocol)
    refuse(tmp_path, build.zip_bytes(hostile, {}), "asks for io.open|_io.open")
    refuse(tmp_path, build.legacy_bytes(hostile, {}, {}), "asks for io.open|_io.open")
    refuse(tmp_path, hostile, "plain pickle")
    assert not flag.exists()
    pickle.loads(hostile)["a"].close()  # it would have run
    assert flag.exists()


@pytest.mark.parametrize(
    ("value", "match"),
    [
        # A stand-in may not be called with something else, nor built upon.
        (build.Call(build.Name("torch", "FloatStorage"), ()), "is called"),
        (build.Call(build.Name("collections", "OrderedDict"), ([],)), "damaged"),
        (
            build.Call(build.Name("torch._utils", "_rebuild_tensor_v2"), (1, 2, 3)),
            "damaged",
        ),
        (build.Call(build.Name("torch", "Size"), ("ab",)), "damaged"),
        (build.Call("eval", ("1",)), "no known constructor"),
        (
            build.Raw(build.opcodes(build.Name("torch", "Size")) + b"}b"),
            "attributes are set",
        ),
        (build.Raw(b"i__builtin__\neval\n"), "instruction INST"),
        (build.Raw(b"(c__builtin__\neval\no"), "asks for __builtin__.eval"),
        (build.Raw(b"(o"), "instruction OBJ"),
        (build.Raw(b"c__builtin__\nobject\n)\x81"), "asks for __builtin__.object"),
        (build.Raw(b"ccollections\nOrderedDict\n)\x81"), "instruction NEWOBJ"),
        (build.Raw(b"\x82\x01"), "instruction EXT1"),
        (build.Raw(b"P1\n"), "instruction PERSID"),
        (build.Raw(b"I1\n"), "instruction INT"),
        (build.Raw(b"\x8f"), "instruction EMPTY_SET"),
        (build.Raw(b"2"), "instruction DUP"),
        (build.Raw(b"\xff"), "damaged pickle"),
        (build.PersistentId(("storage", "FloatStorage", "0", "cpu", 1)), "describes"),
        (build.PersistentId("0"), "describes no storage"),
        (build.storage("0", "float32", -1), "impossible length"),
        (build.storage("0", "float32", 1 << 80), "impossible length"),
    ],
)
def test_misuse_of_the_machine_is_refused(tmp_path, value, match):
    for data in both_forms({"a": value}, {}, {}):
        refuse(tmp_path, data, match)


HUGE = 1 << 70_000
DEEP = build.Raw(b"(" * 50_000 + b"t" * 50_000)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"shape": (3,), "offset": 10}, "does not fit"),
        ({"shape": (13,)}, "does not fit"),
        ({"shape": (2, 2), "stride": (11, 2)}, "does not fit"),
        ({"shape": (2,), "offset": -1}, "has the offset -1"),
        ({"shape": (2,), "stride": (-1,)}, r"strides \(-1\)"),
        ({"shape": (2,), "stride": (1, 1)}, "one integer >= 0 for each of 1"),
        ({"shape": (-2,), "stride": (1,)}, "dimension -2"),
        ({"shape": (2.0,), "stride": (1,)}, "dimension of type float"),
        ({"shape": (True,), "stride": (1,)}, "dimension of type bool"),
        ({"shape": (1 << 60,), "stride": (0,)}, "more than any model has"),
        ({"shape": (1 << 40,), "stride": (0,)}, "does not fit|more than any"),
        ({"shape": (1,) * 65}, "65 dimensions"),
        ({"shape": (HUGE,), "stride": (1,)}, "more than"),
        ({"shape": (1,), "stride": (HUGE,)}, "more than 64 bits"),
        ({"shape": (2,), "offset": HUGE}, "more than 64 bits"),
        ({"shape": (DEEP,), "stride": (1,)}, "dimension of type tuple"),
        ({"shape": (2,), "stride": (DEEP,)}, "of type tuple"),
        ({"shape": (2,), "offset": DEEP}, "of type tuple"),
    ],
)
def test_tensor_that_leaves_its_storage(tmp_path, arguments, match):
    shape = arguments.pop("shape")
    root = {"a": build.tensor(build.storage("0", "float32", 12), shape, **arguments)}
    for data in both_forms(root, {"0": bytes(48)}, {"0": 4}):
        refuse(tmp_path, data, match)


@pytest.mark.parametrize("claimed", [11, 13, 1 << 40, 0])
def test_storage_sizes_that_lie(tmp_path, claimed):
    root = {"a": build.tensor(build.storage("0", "float32", claimed), (0,))}
    content = {"0": bytes(48)}
    refuse(tmp_path, build.zip_bytes(root, content), "found 48")
    data = build.legacy_bytes(root, content, {"0": 4})
    refuse(tmp_path, data, "found 48")
    # The count before the numbers lies too.
    data = build.legacy_bytes(root, content, {"0": 4}, counts={"0": claimed})
    refuse(tmp_path, data, "truncated|expected|damaged")
    data = build.legacy_bytes(root, content, {"0": 4}, counts={"0": -1})
    refuse(tmp_path, data, "truncated")


def test_missing_and_contradictory_storages(tmp_path):
    root = {"a": build.tensor(build.storage("7", "float32", 12), (12,))}
    refuse(tmp_path, build.zip_bytes(root, {"0": bytes(48)}), "'7'.*missing")
    data = build.legacy_bytes(root, {"0": bytes(48)}, {"0": 4})
    refuse(tmp_path, data, "no tensor uses")
    root = {
        "a": build.tensor(build.storage("0", "float32", 12), (12,)),
        "b": build.tensor(build.storage("0", "float16", 24), (24,)),
    }
    for data in both_forms(root, {"0": bytes(48)}, {"0": 4}):
        refuse(tmp_path, data, "described in two ways")


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


@pytest.mark.parametrize(
    ("pickle_bytes", "match"),
    [
        (nested(400_000), "holds a list"),
        (b"\x80\x02" + b"}" * 1_500_000 + b".", "steps"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "holds a NoneType"),  # memo index 2**31
        (b"\x80\x02X\xff\xff\xff\xff.", "damaged"),  # a string of 4 GiB
        (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.", "damaged"),  # of 2**63
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "damaged"),
        (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.", "holds a NoneType|damaged"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x02j\x05\x00\x00\x00.", "never stored"),
        (b"\x80\x02.", "0 objects"),
        (b"\x80\x02NN.", "2 objects"),
        (b"\x80\x02(.", "damaged|holds"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02N", "damaged"),
        (b"", "damaged"),
        (b"\x80\x02}" + build.opcodes((1,)) + b"Ns.", "neither string nor number"),
        (b"\x80\x02}" + build.opcodes(HUGE) + b"Ns.", "neither string nor number"),
        (b"\x80\x02]N]s.", "no dict"),
        (b"\x80\x02}Na.", "no list"),
        (build.pickled({}), "an empty dict"),
        (build.pickled({1: None}), "expected a tensor"),
        (build.pickled({"a": 1}), "entry 'a' is a int"),
        (build.pickled([1]), "holds a list"),
    ],
)
def test_bombs_and_damaged_pickles(tmp_path, pickle_bytes, match):
    refuse(tmp_path, build.zip_bytes(pickle_bytes, {}), match)
    refuse(
        tmp_path,
        build.legacy_bytes(pickle_bytes, {}, {}),
        "PyTorch|holds|uses|steps|damaged|asks|entry",
    )


def test_key_that_takes_for_ever_to_hash(tmp_path):
    code = b"\x80\x02})" + b"q\x00h\x00\x86" * 100 + b"Ns."
    refuse(tmp_path, build.zip_bytes(code, {}), "neither string nor number")


def test_compressed_members_are_refused(tmp_path):
    root = {"a": build.tensor(build.storage("0", "float32", 1 << 20), (1 << 20,))}
    content = {"0": bytes(4 << 20)}
    bomb = build.zip_bytes(root, content, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    refuse(tmp_path, bomb, "compressed")
    # Only the storage is compressed.
    stream = io.BytesIO(build.zip_bytes(root, {}))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", content["0"])
    refuse(tmp_path, stream.getvalue(), "archive/data/0 is compressed")


def test_archives_that_are_no_torch_file(tmp_path):
    root, storages = build.state_dict(ARRAYS), build.storages_of(ARRAYS)
    for extra, match in [
        ({"other/data.pkl": b""}, "exactly one data.pkl"),
        ({"archive/constants.pkl": b""}, "TorchScript"),
    ]:
        refuse(tmp_path, build.zip_bytes(root, storages, extra=extra), match)
    refuse(tmp_path, build.zip_bytes(root, storages, byteorder="big"), "big-endian")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", "{}")
    refuse(tmp_path, stream.getvalue(), "exactly one data.pkl")
    stream = io.BytesIO(build.zip_bytes(root, storages))
    with (
        zipfile.ZipFile(stream, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("archive/data/0", bytes(48))
    refuse(tmp_path, stream.getvalue(), "share a name")


def test_legacy_files_of_other_kinds(tmp_path):
    root, storages = build.state_dict(ARRAYS), build.storages_of(ARRAYS)
    for options, match in [
        ({"little_endian": False}, "big-endian"),
        ({"protocol": 1002}, "format version"),
    ]:
        data = build.legacy_bytes(root, storages, ITEMSIZES, **options)
        refuse(tmp_path, data, match)
    data = build.legacy_bytes(root, storages, ITEMSIZES)
    refuse(tmp_path, data + b"\0", "expected")
    refuse(tmp_path, data[:-1], "truncated")
    refuse(tmp_path, b"<!DOCTYPE html>", "not a PyTorch file")
    refuse(tmp_path, b"version https://git-lfs.github.com/spec/v1\n", "git-lfs")
    refuse(tmp_path, b"", "not a PyTorch file|begins with b''")
