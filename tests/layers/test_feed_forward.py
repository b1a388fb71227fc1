"""Feed-forward, plain and gated."""

import json
from functools import partial

import golden_layers
import keras
import numpy as np
import pytest
import reference
from contract import assign, named_weights, randomize, to_numpy

from bert4keras3.layers.activation import squared_relu
from bert4keras3.layers.feed_forward import FeedForward
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.models import BertBackbone, RoFormerBackbone, RoFormerV2Backbone
from bert4keras3.tasks.masked_lm import MaskedLM

RNG = np.random.default_rng(7)


def from_golden(case):
    activations = case.ctor["activation"]
    many = activations if isinstance(activations, list) else [activations]
    layer = FeedForward(case.ctor["units"], activations, use_bias=case.ctor["use_bias"])
    layer.build(case.inputs["x"].shape)
    table = {"i0_dense": "intermediate_dense", "o_dense": "output_dense"}
    table |= {f"i{i}_dense": f"gate_dense_{i}" for i in range(1, len(many))}
    weights = golden_layers.renamed(case.weights, table)
    assign(layer, weights)
    return layer, weights, many


@pytest.mark.parametrize("name", golden_layers.names("ffn_"))
def test_golden(name):
    case = golden_layers.read(name)
    layer, weights, activations = from_golden(case)
    given = to_numpy(layer(case.inputs["x"]))
    np.testing.assert_allclose(given, case.outputs[0], atol=golden_layers.TOLERANCE)
    names = [golden_layers.ACTIVATIONS.get(a, a) for a in activations]
    formula = reference.feed_forward(case.inputs["x"].astype("float64"), weights, names)
    np.testing.assert_allclose(formula, case.outputs[0], atol=golden_layers.TOLERANCE)


def test_golden_activations():
    stored = golden_layers.arrays("fn_activations")
    x = stored.pop("x")
    ours = {
        "gelu_erf": keras.activations.get("gelu"),
        "gelu_tanh": lambda x: keras.activations.gelu(x, approximate=True),
        "swish": keras.activations.get("swish"),
        "leaky_relu": keras.activations.get("leaky_relu"),
    }
    assert set(stored) == set(ours)
    for name, activation in ours.items():
        np.testing.assert_allclose(
            to_numpy(activation(keras.ops.convert_to_tensor(x))),
            stored[name],
            atol=1e-6,
        )


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    "activations",
    [["relu"], ["squared_relu"], ["gelu", "linear"], ["silu"] * 3],
)
def test_against_the_formulas(activations, use_bias):
    x = RNG.normal(size=(2, 3, 5)).astype("float32")
    layer = FeedForward(9, activations, use_bias)
    layer.build(x.shape)
    weights = randomize(layer)
    assert len(weights) == (len(activations) + 1) * (1 + use_bias)
    expected = reference.feed_forward(x.astype("float64"), weights, activations)
    np.testing.assert_allclose(to_numpy(layer(x)), expected, atol=1e-5)


def test_positions_do_not_mix():
    x = RNG.normal(size=(2, 4, 5)).astype("float32")
    layer = FeedForward(6, "gelu")
    whole = to_numpy(layer(x))
    np.testing.assert_allclose(to_numpy(layer(x[:, 2:3])), whole[:, 2:3], atol=1e-6)


def test_kernels_that_share_an_initializer_start_apart():
    layer = FeedForward(8, ["gelu", "linear"], kernel_initializer="glorot_uniform")
    layer.build((None, 8))
    kernels = [to_numpy(v) for k, v in named_weights(layer).items() if "kernel" in k]
    assert len(kernels) == 3
    assert all(np.abs(kernels[0] - other).max() > 0.01 for other in kernels[1:])


def test_no_activation_and_unknown_activations_are_refused():
    with pytest.raises(ValueError, match="at least one activation"):
        FeedForward(4, [])
    with pytest.raises(ValueError, match="geluu"):
        FeedForward(4, "geluu")


def test_activations_of_ours_are_found_by_name():
    layer = FeedForward(4, ["squared_relu", "linear"])
    assert layer.activations == [squared_relu, keras.activations.linear]
    again = FeedForward.from_config(layer.get_config())
    assert again.activations == layer.activations
    unit = GatedAttentionUnit(8, 4, activation="squared_relu")
    assert GatedAttentionUnit.from_config(unit.get_config()).activation is squared_relu


@pytest.mark.parametrize("activation", ["squared_relu", ["silu", "linear"]])
def test_backbones_take_squared_and_gated_activations(activation):
    """Primer's feed-forward layers, and those of Transformer++."""
    ids = np.array([[1, 2, 3, 0]])
    for make in (
        partial(RoFormerV2Backbone, 30, 1, 2, 8, 16),
        partial(RoFormerBackbone, 30, 1, 2, 8, 16),
        partial(BertBackbone, 30, 1, 2, 8, 16),
    ):
        model = make(activation=activation)
        config = json.loads(json.dumps(model.get_config()))
        again = type(model).from_config(config)
        again.set_weights(model.get_weights())
        given = to_numpy(again({"token_ids": ids}))
        np.testing.assert_array_equal(given, to_numpy(model({"token_ids": ids})))
        gates = [w.path for w in model.weights if "gate_dense_1/kernel" in w.path]
        assert len(gates) == (len(activation) == 2)
        assert MaskedLM(model)({"token_ids": ids}).shape[-1] == 30
