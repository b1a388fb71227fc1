"""HDF5 weight files: both layouts, whole models, links and compression."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from zoo.checkpoints import CheckpointError, CheckpointNotFoundError, open_checkpoint
from zoo.checkpoints.h5 import H5Checkpoint

GOLDEN = Path(__file__).parents[2] / "golden"
# What h5py wrote by default before HDF5 2.0.
CLASSIC = ("earliest", "v110")
DTYPES = ["float32", "float16", "float64", "int64", "uint8", "bool", ">f4", ">i2"]
LAYERS = {
    "Input-Token": {},
    "Embedding-Token": {"Embedding-Token/embeddings:0": (5, 4)},
    "Transformer-0-GatedAttentionUnit": {
        "Transformer-0-GatedAttentionUnit/dense_17/kernel:0": (4, 9),
        "Transformer-0-GatedAttentionUnit/scale_offset_3/gamma:0": (3,),
        "Transformer-0-GatedAttentionUnit/scale_offset_4/gamma:0": (3,),
        "dense_18/kernel:0": (3, 4),
    },
}
HUB_LAYERS = {
    "dropout_3": {},
    "roformer": {
        "tf_ro_former_model/roformer/embeddings/word_embeddings/weight:0": (5, 4),
        "tf_ro_former_model/roformer/encoder/layer_._0/kernel:0": (4, 4),
    },
    "mlm___cls": {"tf_ro_former_model/mlm___cls/predictions/bias:0": (5,)},
}


def write(path, layers, *, dtype="float32", group=None, split=None):
    """A file as Keras 2 writes it; gives the arrays by the names in the file."""
    random = np.random.default_rng(0)
    arrays = {}
    with h5py.File(path, "w", libver=CLASSIC) as file:
        root = file.create_group(group) if group else file
        names = [layer.encode() for layer in layers]
        if split:
            for part, start in enumerate(range(0, len(names), split)):
                root.attrs[f"layer_names{part}"] = names[start : start + split]
        else:
            root.attrs["layer_names"] = names
        for layer, weights in layers.items():
            holder = root.create_group(layer)
            holder.attrs["weight_names"] = [name.encode() for name in weights]
            for name, shape in weights.items():
                arrays[name] = random.normal(size=shape).astype(dtype)
                holder[name] = arrays[name]
    return arrays


def check(path, names, arrays):
    """`names` maps our name to the name in the file."""
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "h5"
        assert list(checkpoint.variables) == list(names)
        assert checkpoint.weight_names == names
        for name, original in names.items():
            found, info = checkpoint.read(name), checkpoint.variables[name]
            assert (info.shape, info.dtype) == (found.shape, found.dtype)
            assert found.dtype == arrays[original].dtype.newbyteorder("=")
            assert found.flags.writeable and found.flags.c_contiguous
            np.testing.assert_array_equal(found, arrays[original])
        assert checkpoint.verify() is False


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"group": "model_weights"}, {"split": 2}])
def test_keras_2_layout(tmp_path, dtype, options):
    path = tmp_path / "best_model.weights"
    arrays = write(path, LAYERS, dtype=dtype, **options)
    names = {
        f"{layer}/{index}": weight
        for layer, weights in LAYERS.items()
        for index, weight in enumerate(weights)
    }
    assert list(names)[1:3] == [
        "Transformer-0-GatedAttentionUnit/0",
        "Transformer-0-GatedAttentionUnit/1",
    ]
    check(path, names, arrays)


def test_file_of_the_original():
    with (
        open_checkpoint(GOLDEN / "h5" / "roformer_v2.weights") as checkpoint,
        np.load(GOLDEN / "models" / "roformer_v2" / "variables.npz") as expected,
    ):
        # `Embedding-Token/0` and `Transformer-1-FeedForward/1` are the released names
        # `bert/embeddings/word_embeddings` and `bert/encoder/layer_1/output/dense`.
        embedding = expected["bert|embeddings|word_embeddings"]
        np.testing.assert_array_equal(checkpoint.read("Embedding-Token/0"), embedding)
        kernel = expected["bert|encoder|layer_1|output|dense|kernel"]
        found = checkpoint.read("Transformer-1-FeedForward/1")
        np.testing.assert_array_equal(found, kernel)
        assert sorted(array.tobytes() for _, array in checkpoint.items()) == sorted(
            expected[name].tobytes() for name in expected.files
        )


def test_hub_layout(tmp_path):
    arrays = write(tmp_path / "tf_model.h5", HUB_LAYERS)
    names = {n.split("/", 1)[1].removesuffix(":0"): n for n in arrays}
    check(tmp_path / "tf_model.h5", names, arrays)


def test_tied_weights_of_the_hub_layout_are_read_once(tmp_path):
    """The masked-LM head holds the embedding layer, so its group has it again."""
    tied = "tf_ro_former_model/roformer/embeddings/word_embeddings/weight:0"
    head = {**HUB_LAYERS["mlm___cls"], tied: (5, 4)}
    write(tmp_path / "tf_model.h5", {**HUB_LAYERS, "mlm___cls": head})
    with open_checkpoint(tmp_path / "tf_model.h5") as checkpoint:
        assert list(checkpoint.variables) == [
            "roformer/embeddings/word_embeddings/weight",
            "roformer/encoder/layer_._0/kernel",
            "mlm___cls/predictions/bias",
        ]


def test_many_layers(tmp_path):
    # Enough for trees of several levels and for split attributes.
    layers = {f"layer-{i}": {f"layer-{i}/kernel:0": (i % 3,)} for i in range(1500)}
    arrays = write(tmp_path / "model.h5", layers, split=200)
    names = {f"layer-{i}/0": f"layer-{i}/kernel:0" for i in range(1500)}
    check(tmp_path / "model.h5", names, arrays)


@pytest.mark.parametrize("text", ["fixed", "any length"])
def test_names_of_both_kinds(tmp_path, text):
    names = ["layer", "b" * 300]
    kind = h5py.string_dtype("utf-8", None if text == "any length" else 300)
    with h5py.File(tmp_path / "model.h5", "w", libver=CLASSIC) as file:
        encoded = [name.encode() for name in names]
        file.attrs.create("layer_names", encoded, dtype=kind)
        for name in names:
            file.create_group(name)["kernel:0"] = np.ones(3, "float32")
            file[name].attrs.create("weight_names", [b"kernel:0"], dtype=kind)
    with open_checkpoint(tmp_path / "model.h5") as checkpoint:
        assert list(checkpoint.variables) == [f"{name}/0" for name in names]


def test_small_data_inside_the_header(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w", libver=CLASSIC) as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        dataset = h5py.h5d.create(
            file.id, b"x", h5py.h5t.IEEE_F32LE, space, dcpl=properties
        )
        array = np.array([1.5, -2.0, 3.0], "float32")
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    with open_checkpoint(tmp_path / "model.h5") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("x"), array)


@pytest.mark.parametrize("dtype", ["complex64", "S5", h5py.string_dtype()])
def test_other_types_are_refused(tmp_path, dtype):
    with h5py.File(tmp_path / "model.h5", "w", libver=CLASSIC) as file:
        file.create_dataset("x", (3,), dtype)
    with pytest.raises(CheckpointError, match="no array of numbers"):
        open_checkpoint(tmp_path / "model.h5")


def test_newer_layout_is_refused(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w", libver="latest") as file:
        file["x"] = np.ones(3)
    with pytest.raises(CheckpointError, match="newer layout .*libver='earliest'"):
        open_checkpoint(tmp_path / "model.h5")


def test_truncated_file(tmp_path):
    write(tmp_path / "model.h5", LAYERS)
    data = (tmp_path / "model.h5").read_bytes()
    (tmp_path / "model.h5").write_bytes(data[:-1])
    with pytest.raises(
        CheckpointError, match=f"{len(data)} bytes, found {len(data) - 1}"
    ):
        open_checkpoint(tmp_path / "model.h5")


def test_groups_without_attributes(tmp_path):
    path = tmp_path / "tf_model.h5"
    kernel, bias = np.ones((2, 3), "float32"), np.zeros(3, "float32")
    with h5py.File(path, "w", libver=CLASSIC) as file:
        file["bert/pooler/dense/kernel:0"] = kernel
        file["bert/pooler/dense/bias:0"] = bias
        file["bert/again"] = file["bert/pooler"]  # a second way to the same group
        file["bert/pooler/loop"] = file["bert"]
    with open_checkpoint(path) as checkpoint:
        assert len(checkpoint.variables) == 2
        for name in checkpoint.variables:
            array = kernel if name.endswith("kernel") else bias
            np.testing.assert_array_equal(checkpoint.read(name), array)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within Keras
def test_files_that_keras_writes(tmp_path):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3, name="first")(inputs)
    outputs = keras.layers.Dense(2, name="second", use_bias=False)(outputs)
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.h5")
    with open_checkpoint(tmp_path / "model.h5") as checkpoint:
        assert list(checkpoint.variables) == ["first/0", "first/1", "second/0"]
        arrays = [array for _, array in checkpoint.items()]
    for ours, theirs in zip(arrays, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(CheckpointError, match="of Keras 3"):
        open_checkpoint(tmp_path / "model.weights.h5")


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w", libver=CLASSIC) as file:
        file["x"] = np.ones(3)
    for number, link in enumerate(
        [h5py.ExternalLink(str(secret), "x"), h5py.SoftLink("/other")]
    ):
        for listed in (True, False):
            path = tmp_path / f"bad{number}{listed}.h5"
            with h5py.File(path, "w", libver=CLASSIC) as file:
                file["other"] = np.ones(3)
                file.create_group("layer")["kernel:0"] = link
                if listed:
                    file.attrs["layer_names"] = [b"layer"]
                    file["layer"].attrs["weight_names"] = [b"kernel:0"]
            with pytest.raises(CheckpointError, match="is a link|newer layout"):
                open_checkpoint(path)


def test_external_and_virtual_data_is_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(400))
    with h5py.File(tmp_path / "external.h5", "w", libver=CLASSIC) as file:
        file.create_dataset("x", (10,), "f4", external=str(tmp_path / "secret.bin"))
    with h5py.File(tmp_path / "other.h5", "w", libver=CLASSIC) as file:
        file["x"] = np.ones(10, "float32")
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (10,))
    with h5py.File(tmp_path / "virtual.h5", "w", libver=CLASSIC) as file:
        file.create_virtual_dataset("x", layout)
    for name in ("external.h5", "virtual.h5"):
        with pytest.raises(CheckpointError, match="external|in chunks"):
            open_checkpoint(tmp_path / name)


def test_bombs_are_refused(tmp_path):
    with h5py.File(tmp_path / "unallocated.h5", "w", libver=CLASSIC) as file:
        file.create_dataset("x", (1 << 40,), "f4", chunks=(1 << 20,))
    with h5py.File(tmp_path / "compressed.h5", "w", libver=CLASSIC) as file:
        file.create_dataset("x", data=np.zeros(1 << 20), compression="gzip")
    for name in ("unallocated.h5", "compressed.h5"):
        with pytest.raises(CheckpointError, match="in chunks|compressed"):
            open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda file: file.__delitem__("Embedding-Token"), "missing"),
        (
            lambda file: file["Embedding-Token"].__delitem__("Embedding-Token"),
            "missing",
        ),
        (
            lambda file: file["Embedding-Token"].attrs.modify(
                "weight_names", [b"../other"]
            ),
            "not a path",
        ),
        (
            lambda file: file["Embedding-Token"].attrs.modify(
                "weight_names", [b"Embedding-Token"]
            ),
            "no array of numbers",
        ),
        (lambda file: file.attrs.create("layer_names", [b"Input-Token"]), "no weights"),
        (lambda file: file.attrs.create("layer_names", 3.5), "no list of names"),
    ],
)
def test_attributes_that_lie(tmp_path, spoil, match):
    path = tmp_path / "model.h5"
    write(path, LAYERS)
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(CheckpointError, match=match) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


def test_tree_that_repeats_itself(tmp_path):
    """A tree of groups in which every child is the same: 64 ** 5 members in 10 kB."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w", libver=CLASSIC) as file:
        file["x"] = np.ones(3, "float32")
    data = bytearray(path.read_bytes())
    leaf = data.index(b"SNOD")
    root = data.index(b"TREE")
    child = leaf
    for level in range(5):
        node = struct.pack("<4sBBHQQ", b"TREE", 0, level, 64, 1 << 63, 1 << 63)
        node += struct.pack("<QQ", 0, child) * 64
        child = len(data)
        data += node
    data[root : root + 24] = struct.pack("<4sBBHQQ", b"TREE", 0, 5, 1, 1 << 63, 1 << 63)
    data[root + 24 : root + 40] = struct.pack("<QQ", 0, child)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="more structure than any model"):
        open_checkpoint(path)


def test_strings_are_no_weights(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w", libver=CLASSIC) as file:
        file["x"] = "text"
    with pytest.raises(CheckpointError, match="no array of numbers"):
        open_checkpoint(tmp_path / "model.h5")


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match="not an HDF5 file"):
        open_checkpoint(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(CheckpointError, match="holds no weights"):
        open_checkpoint(path)
    with pytest.raises(CheckpointNotFoundError):
        H5Checkpoint(tmp_path / "missing.h5")


def test_reading_after_close_is_refused(tmp_path):
    write(tmp_path / "model.h5", LAYERS)
    checkpoint = open_checkpoint(tmp_path / "model.h5")
    checkpoint.close()
    with pytest.raises(CheckpointError, match="closed"):
        checkpoint.read("Embedding-Token/0")
