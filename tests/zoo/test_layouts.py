"""Every layout of every architecture: written by its table, found and read back."""

import h5py
import numpy as np
import pytest
from golden_cases import GOLDEN, MODELS, to_numpy

import zoo
from bert4keras3.models.weight_map import expand
from zoo.checkpoints import open_checkpoint, write_safetensors
from zoo.detection import detect
from zoo.preset import BACKBONES, backbone_class
from zoo.weights import collect

CASES = {"gau_alpha": "gau_alpha", "roformer": "roformer", "roformer_v2": "roformer_v2"}
LAYOUTS = [
    (architecture, layout)
    for architecture in BACKBONES
    for layout in backbone_class(architecture).weight_maps
]


def test_there_are_layouts_of_every_architecture():
    assert len(LAYOUTS) >= 16
    for architecture in BACKBONES:
        assert {"tf1", "transformers"} <= set(backbone_class(architecture).weight_maps)


def small_model(architecture):
    if architecture in CASES:
        task = None if architecture == "roformer_v2" else "masked_lm"
        return zoo.load(MODELS / CASES[architecture], task=task, preprocessor=None)
    return zoo.load(
        "bert-base-chinese",
        weights=None,
        task="masked_lm",
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=12,
    )


@pytest.mark.parametrize("architecture,layout", LAYOUTS)
def test_a_layout_is_found_from_its_names_and_reads_back(
    architecture, layout, tmp_path
):
    model = small_model(architecture)
    backbone = getattr(model, "backbone", model)
    rows = expand(backbone.weight_maps[layout], backbone.num_layers)
    tensors = {name: make() for name, make in collect(model, rows)}
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with open_checkpoint(tmp_path) as checkpoint:
        match = detect(checkpoint)
    assert match.architecture == architecture
    found = {row.released for row in match.rows} & set(tensors)
    assert found == set(tensors)
    sizes = {
        key: value
        for key, value in backbone.get_config().items()
        if key in ("vocabulary_size", "num_layers", "num_heads", "hidden_dim")
        or key in ("intermediate_dim", "key_dim", "max_sequence_length")
    }
    preset = {
        "gau_alpha": "gau-alpha",
        "roformer": "roformer-char-small",
        "roformer_v2": "roformer-v2-small",
        "bert": "bert-base-chinese",
    }[architecture]
    fresh = zoo.load(preset, weights=None, **sizes)
    from zoo.weights import assign

    with open_checkpoint(tmp_path) as checkpoint:
        assign(fresh, checkpoint, match.rows)
    for ours, theirs in zip(backbone.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def test_weights_saved_by_the_original_as_h5():
    """A genuine `.weights` file of bert4keras."""
    original = zoo.load(MODELS / "roformer_v2")
    read = zoo.load(
        MODELS / "roformer_v2", weights=GOLDEN / "h5" / "roformer_v2.weights"
    )
    for ours, theirs in zip(original.weights, read.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def write_keras_2_file(path, layers):
    """`layers`: layer name -> list of (weight name, array)."""
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name, _ in weights]
            for name, array in weights:
                group[name] = array


@pytest.mark.parametrize("order", ["iqko", "ioqk"])
def test_gau_h5_files_of_both_orders(tmp_path, order):
    """bert4keras changed the order of a GAU's weights in 0.11.4."""
    with np.load(MODELS / "gau_alpha" / "variables.npz") as stored:
        variables = {name.replace("|", "/"): stored[name] for name in stored.files}
    layers = {
        "Embedding-Token": [
            (
                "Embedding-Token/embeddings:0",
                variables["bert/embeddings/word_embeddings"],
            )
        ],
        "Embedding-Segment": [
            (
                "Embedding-Segment/embeddings:0",
                variables["bert/embeddings/token_type_embeddings"],
            )
        ],
    }
    names = {
        "i": "i_dense/kernel",
        "q": "q_scaleoffset/gamma",
        "k": "k_scaleoffset/gamma",
        "o": "o_dense/kernel",
    }
    for i in range(2):
        layers[f"Transformer-{i}-GatedAttentionUnit"] = [
            (
                f"{letter}_{i}:0",
                variables[f"GAU_alpha/encoder/layer_{i}/gau/{names[letter]}"],
            )
            for letter in order
        ]
    write_keras_2_file(tmp_path / "model.weights", layers)
    read = zoo.load(MODELS / "gau_alpha", weights=tmp_path / "model.weights")
    original = zoo.load(MODELS / "gau_alpha")
    for ours, theirs in zip(original.weights, read.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def test_hub_h5_file(tmp_path):
    """`tf_model.h5`: nested names, the tied embedding twice, a table of angles."""
    model = zoo.load(MODELS / "roformer", task="masked_lm", preprocessor=None)
    rows = expand(model.backbone.weight_maps["tf_h5"], 2)
    tensors = {name: make() for name, make in collect(model, rows)}
    prefix = "tf_ro_former_for_masked_lm"
    layers = {"roformer": [], "mlm___cls": []}
    for name, array in tensors.items():
        layers[name.split("/")[0]].append((f"{prefix}/{name}:0", array))
    tied = f"{prefix}/roformer/embeddings/word_embeddings/weight:0"
    layers["mlm___cls"].append((tied, dict(layers["roformer"])[tied]))
    layers["roformer"].append(
        (f"{prefix}/roformer/encoder/embed_positions/embeddings:0", np.ones((8, 16)))
    )
    write_keras_2_file(tmp_path / "tf_model.h5", layers)
    read = zoo.load(
        MODELS / "roformer",
        weights=tmp_path / "tf_model.h5",
        task="masked_lm",
        preprocessor=None,
    )
    for ours, theirs in zip(model.weights, read.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
