"""KerasHub's own RoFormerV2 gives the same hidden states in our layers."""

import json
import shutil

import keras_hub
import numpy as np
import pytest

import bert4keras3.hub as hub
from bert4keras3.models import RoFormerV2Backbone

SIZES = {
    "vocabulary_size": 30,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "head_size": 8,
}
INPUTS = {
    "token_ids": np.array([[5, 6, 7, 8, 9], [3, 2, 1, 29, 4]]),
    "segment_ids": np.array([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]),
}


def theirs(**changes):
    """With weights of size 0.3: the initializer's 0.02 would hide a mistake."""
    model = keras_hub.models.RoformerV2Backbone(**{**SIZES, **changes})
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if not weight.path.endswith("scale"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.mark.parametrize(
    "changes", [{}, {"max_wavelength": 50}, {"activation": "gelu", "num_segments": 3}]
)
def test_hidden_states_are_equal(changes):
    model = theirs(**changes)
    ours = hub.load_roformer_v2(model)
    assert type(ours.unwrap()) is RoFormerV2Backbone
    expected = np.array(model(INPUTS))
    assert expected.std() > 0.5
    np.testing.assert_allclose(np.array(ours(INPUTS)), expected, atol=5e-6)


def test_padding_stays_outside():
    """Ours with padding equal KerasHub's without."""
    model = theirs()
    padded = {name: np.pad(ids, ((0, 0), (0, 4))) for name, ids in INPUTS.items()}
    found = np.array(hub.load_roformer_v2(model)(padded))[:, :5]
    np.testing.assert_allclose(found, np.array(model(INPUTS)), atol=5e-6)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    model = theirs()
    model.save_to_preset(str(folder))
    return folder, np.array(model(INPUTS))


def test_a_preset_is_loaded(preset, tmp_path):
    folder, expected = preset
    ours = hub.load_roformer_v2(folder, dropout=0.0)
    np.testing.assert_allclose(np.array(ours(INPUTS)), expected, atol=5e-6)
    assert ours.model.dropout == 0.0
    ours.save_to_preset(str(tmp_path))
    again = keras_hub.models.Backbone.from_preset(str(tmp_path))
    np.testing.assert_allclose(np.array(again(INPUTS)), expected, atol=5e-6)


def changed(folder, target, **config):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    path = target / "config.json"
    content = json.loads(path.read_text("utf-8"))
    content["config"].update(config)
    path.write_text(json.dumps(content), "utf-8")
    return target


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_layers": 3}, "8 objects could not be loaded"),
        ({"intermediate_dim": 20}, r"variable.shape=\(16, 20\)"),
    ],
)
def test_weights_must_be_those_of_the_config(preset, tmp_path, config, message):
    folder = changed(preset[0], tmp_path / "changed", **config)
    with pytest.raises(ValueError, match="parameter_count|sizes in config.json"):
        hub.load_roformer_v2(folder)
    (folder / "metadata.json").unlink()
    with pytest.raises(ValueError, match=f"(?s)model.weights.h5 does not.*{message}"):
        hub.load_roformer_v2(folder)


def test_no_weight_is_left_unread(preset, tmp_path):
    folder = changed(preset[0], tmp_path / "changed", num_layers=1)
    with pytest.raises(ValueError, match="was saved with [0-9]+ weights"):
        hub.load_roformer_v2(folder)


def test_files_that_are_missing_or_damaged(preset, tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        hub.load_roformer_v2(tmp_path)
    folder = changed(preset[0], tmp_path / "changed")
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="or is damaged"):
        hub.load_roformer_v2(str(folder))
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="no weights.*model.weights.h5"):
        hub.load_roformer_v2(folder)


def test_networks_that_are_no_roformer_v2():
    with pytest.raises(ValueError, match="(?s)no place for.*bias.*use_bias=False"):
        hub.load_roformer_v2(theirs(use_bias=True))
    with pytest.raises(ValueError, match="num_heads=2, head_size=4"):
        hub.load_roformer_v2(theirs(head_size=4))
    scaled = theirs()
    scaled.transformer_layers[1].attention_norm.scale.assign(np.full(16, 1.1))
    with pytest.raises(ValueError, match="transformer_layer_1/attention_norm/scale"):
        hub.load_roformer_v2(scaled)
    with pytest.raises(TypeError, match="BertBackbone"):
        hub.load_roformer_v2(keras_hub.models.BertBackbone(20, 1, 2, 16, 24))


def test_arguments_may_change_but_not_the_shapes():
    causal = hub.load_roformer_v2(theirs(), attention="causal")
    first = {name: ids[:, :2] for name, ids in INPUTS.items()}
    np.testing.assert_allclose(
        np.array(causal(INPUTS))[:, :2], np.array(causal(first)), atol=5e-6
    )
    with pytest.raises(ValueError, match=r"feedforward_intermediate_dense.*\(16, 24\)"):
        hub.load_roformer_v2(theirs(), intermediate_dim=20)
