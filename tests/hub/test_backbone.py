"""A hub backbone is the model it was made of, with KerasHub's methods."""

import gc

import keras
import keras_hub
import numpy as np
import pytest

import bert4keras3.hub as hub
from bert4keras3 import tasks
from bert4keras3.models import (
    BertBackbone,
    FLASHBackbone,
    GAUAlphaBackbone,
    RoFormerBackbone,
    RoFormerV2Backbone,
)

IDS = np.array([[5, 6, 7, 8], [9, 4, 0, 0]])
SEGMENTS = np.array([[0, 0, 1, 1], [0, 0, 0, 0]])
SIZES = {"vocabulary_size": 20, "num_layers": 1, "hidden_dim": 16}


def bert(**arguments):
    return BertBackbone(**SIZES, num_heads=2, intermediate_dim=32, **arguments)


def roformer_v2(**arguments):
    return RoFormerV2Backbone(**SIZES, num_heads=2, intermediate_dim=32, **arguments)


def gau(**arguments):
    return GAUAlphaBackbone(**SIZES, intermediate_dim=32, key_dim=8, **arguments)


MODELS = {
    "bert": bert,
    "bert_with_pooler": lambda: bert(pooler="tanh"),
    "flash": lambda: FLASHBackbone(**SIZES, intermediate_dim=32, key_dim=8),
    "gau": gau,
    "roformer": lambda: RoFormerBackbone(**SIZES, num_heads=2, intermediate_dim=32),
    "roformer_v2": roformer_v2,
}


def flat(outputs):
    return [
        np.asarray(keras.ops.convert_to_numpy(part))
        for part in keras.tree.flatten(outputs)
    ]


def assert_equal(ours, theirs, atol=1e-6):
    for one, other in zip(flat(ours), flat(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.backend
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_config_are_the_model_s(name):
    model = MODELS[name]()
    backbone = hub.Backbone(model)
    inputs = {"token_ids": IDS, "segment_ids": SEGMENTS, "padding_mask": IDS != 0}
    assert_equal(backbone(inputs), model(inputs))
    assert backbone.unwrap() is model
    assert {id(w) for w in backbone.weights} == {id(w) for w in model.weights}
    again = hub.Backbone.from_config(backbone.get_config())
    assert again.get_config() == backbone.get_config()
    assert [w.path for w in again.weights] == [w.path for w in backbone.weights]


def test_missing_inputs_are_derived():
    backbone = hub.Backbone(roformer_v2())
    every = {
        "token_ids": IDS,
        "segment_ids": np.zeros_like(IDS),
        "padding_mask": IDS != 0,
    }
    assert_equal(backbone({"token_ids": IDS}), backbone(every))
    with pytest.raises(ValueError, match="attention_mask"):
        backbone({"token_ids": IDS, "attention_mask": IDS})


@pytest.mark.backend
@pytest.mark.parametrize("name", MODELS)
def test_padding_never_changes_real_positions(name):
    model = hub.Backbone(MODELS[name]())
    text = np.array([[5, 6, 7]])
    one = np.array([[5, 6, 7, 0, 0, 0]])
    other = np.array([[5, 6, 7, 13, 2, 19]])
    mask = np.array([[1, 1, 1, 0, 0, 0]])
    outputs = [
        flat(model({"token_ids": ids, "padding_mask": mask[:, : ids.shape[1]]}))[0]
        for ids in (text, one, other)
    ]
    np.testing.assert_allclose(outputs[1][:, :3], outputs[2][:, :3], atol=1e-6)
    if name != "flash":  # its squared ReLU divides by the length of the row
        np.testing.assert_allclose(outputs[0], outputs[1][:, :3], atol=1e-6)


def test_padding_never_changes_a_class():
    model = hub.TextClassifier(hub.Backbone(gau()), num_classes=2, pooling="mean")
    model.task.head.kernel.assign(np.random.normal(size=(16, 2)))
    mask = np.array([[1, 1, 1, 0, 0]])
    one, other = (
        np.array(model({"token_ids": np.array([ids]), "padding_mask": mask}))
        for ids in ([5, 6, 7, 0, 0], [5, 6, 7, 11, 9])
    )
    np.testing.assert_allclose(one, other, atol=1e-6)


# --- LoRA -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block", "adapted"),
    [
        ("bert", "transformer_layer_0/attention", ("query_dense", "value_dense")),
        (
            "roformer_v2",
            "transformer_layer_0/attention",
            ("query_dense", "value_dense"),
        ),
        ("gau", "gau_0", ("shared_dense", "value_dense")),
    ],
)
def test_lora_trains_its_matrices_and_nothing_else(name, block, adapted):
    model = hub.TextClassifier(
        hub.Backbone(MODELS[name](dropout=0.0, attention_dropout=0.0)), num_classes=2
    )
    model.backbone.enable_lora(2)
    matrices = {
        f"{block}/{layer}/lora_kernel_{half}" for layer in adapted for half in "ab"
    }
    assert {v.path for v in model.backbone.trainable_variables} == matrices
    assert {v.path for v in model.trainable_variables} == matrices | {
        "head/kernel",
        "head/bias",
    }
    frozen = [v for v in model.weights if not v.trainable]
    before = [np.array(v) for v in frozen]
    trained = [(v, np.array(v)) for v in model.backbone.trainable_variables]
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    x = {"token_ids": IDS, "segment_ids": SEGMENTS, "padding_mask": IDS != 0}
    y = np.array([0, 1])
    losses = model.fit(x, y, epochs=6, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert frozen and all(map(np.array_equal, before, frozen))
    assert all(not np.array_equal(old, np.array(v)) for v, old in trained)


def test_lora_names_are_checked():
    backbone = hub.Backbone(roformer_v2())
    with pytest.raises(ValueError, match="q_dense.*query_dense"):
        backbone.enable_lora(2, ["q_dense"])
    with pytest.raises(ValueError, match="rank"):
        backbone.enable_lora(0)
    assert backbone.trainable_variables


def test_a_tuned_model_is_saved_with_its_additions(tmp_path):
    backbone = hub.Backbone(gau())
    plain = np.array(backbone({"token_ids": IDS}))
    backbone.enable_lora(2)
    for variable in backbone.trainable_variables:
        variable.assign(np.random.normal(0, 0.3, variable.shape))
    tuned = np.array(backbone({"token_ids": IDS}))
    assert np.abs(tuned - plain).max() > 0.01
    backbone.save_to_preset(str(tmp_path))
    loaded = keras_hub.models.Backbone.from_preset(str(tmp_path))
    assert_equal(loaded({"token_ids": IDS}), tuned, atol=1e-5)


# --- int8 -------------------------------------------------------------------------


@pytest.fixture
def few_objects():
    """Keras collects garbage after each layer it quantizes: leave it little to see."""
    gc.freeze()
    yield
    gc.unfreeze()


def quantized_layers(model):
    return {
        layer.path
        for layer in model._flatten_layers()
        if getattr(layer, "quantization_mode", None) == "int8"
    }


@pytest.mark.parametrize("name", ["bert", "gau"])
def test_int8_is_saved_and_loaded(name, tmp_path, few_objects):
    x = {"token_ids": IDS, "segment_ids": SEGMENTS, "padding_mask": IDS != 0}
    model = hub.TextClassifier(hub.Backbone(MODELS[name]()), num_classes=2)
    exact = flat(model.backbone(x))[0]
    model.quantize("int8")
    rounded = flat(model.backbone(x))[0]
    assert 0 < np.abs(rounded - exact).max() < 0.2
    layers = quantized_layers(model)
    assert len(layers) >= 4 and "token_embedding" in layers
    logits = np.array(model(x))
    model.save_to_preset(str(tmp_path))
    task = keras_hub.models.TextClassifier.from_preset(str(tmp_path))
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path))
    assert quantized_layers(task) == layers == quantized_layers(backbone)
    assert_equal(task(x), logits)
    assert_equal(backbone(x), rounded)
    weight = backbone.get_layer("token_embedding").weights[0]
    assert keras.backend.standardize_dtype(weight.dtype) == "int8"


def test_int8_can_be_loaded_in_another_float_dtype(tmp_path, few_objects):
    backbone = hub.Backbone(roformer_v2())
    backbone.quantize("int8")
    backbone.save_to_preset(str(tmp_path))
    loaded = keras_hub.models.Backbone.from_preset(str(tmp_path), dtype="bfloat16")
    assert quantized_layers(loaded) == quantized_layers(backbone)
    policies = {loaded.dtype_policy[path].name for path in quantized_layers(loaded)}
    assert policies == {"int8_from_bfloat16"}


# --- from ours and back -----------------------------------------------------------


@pytest.mark.parametrize("name", ["masked_lm", "text_classifier", "text_embedder"])
def test_tasks_share_their_layers(name):
    arguments = {"num_classes": 3} if name == "text_classifier" else {}
    ours = tasks.get(name)(roformer_v2(), **arguments)
    theirs = hub.wrap(ours)
    assert theirs.unwrap() is ours and ours.preprocessor is None
    assert {id(w) for w in theirs.weights} == {id(w) for w in ours.weights}
    assert type(theirs).__bases__ == (getattr(keras_hub.models, type(theirs).__name__),)


def test_what_cannot_be_wrapped_says_what_can():
    with pytest.raises(TypeError, match="NextSentence.*masked_lm, text_classifier"):
        hub.wrap(tasks.get("next_sentence")(bert(pooler="tanh")))
    with pytest.raises(TypeError, match="bert4keras3.models"):
        hub.Backbone(keras.Sequential())


def test_a_masked_lm_says_what_it_lacks():
    with pytest.raises(ValueError, match="mask_positions"):
        hub.MaskedLM(hub.Backbone(gau()))({"token_ids": IDS})
