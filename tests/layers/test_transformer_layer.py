"""The post-norm Transformer layer."""

from functools import partial

import attention_properties as properties
import numpy as np
import pytest
import reference
from contract import named_weights, randomize, to_numpy

from bert4keras3.layers.transformer_layer import TransformerLayer
from bert4keras3.ops import merge_masks

RNG = np.random.default_rng(41)
make = partial(TransformerLayer, 3, 16, rotary_embedding="rope")


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_against_the_formulas(norm, use_bias):
    x = RNG.normal(size=(2, 5, 12)).astype("float32")
    mask = np.tril(np.ones((5, 5), bool))[None, None]
    positions = np.array([0, 1, 2, 10, 11])
    layer = make(
        key_dim=6,
        activation=["gelu", "linear"],
        use_bias=use_bias,
        norm=norm,
        epsilon=0.01,
        normalizer="softmax_plus",
    )
    layer.build(x.shape)
    weights = randomize(layer)
    expected = reference.transformer_layer(
        x.astype("float64"),
        weights,
        3,
        ["gelu", "linear"],
        norm,
        0.01,
        visible=mask,
        rotary=True,
        normalizer="entropy_invariant_softmax",
        query_positions=positions,
        key_positions=positions,
    )
    given = to_numpy(layer(x, mask, positions))
    np.testing.assert_allclose(given, expected, atol=5e-5)


def test_weight_paths():
    dense = ("kernel", "bias")
    expected = {
        f"attention/{name}_dense/{kind}"
        for name in ("query", "key", "value", "output")
        for kind in dense
    }
    expected |= {
        f"feed_forward/{name}_dense/{kind}"
        for name in ("intermediate", "output")
        for kind in dense
    }
    expected |= {
        f"{name}_norm/{kind}"
        for name in ("attention", "feed_forward")
        for kind in ("gamma", "beta")
    }
    layer = make()
    layer.build((None, 5, 12))
    assert set(named_weights(layer)) == expected
    layer = make(norm="rms_norm", use_bias=False)
    layer.build((None, 5, 12))
    kernels = {name for name in expected if name.endswith("kernel")}
    assert set(named_weights(layer)) == kernels


def attend_with(layer):
    layer.build((None, None, properties.D))
    randomize(layer)

    def attend(x, padding_mask=None, attention_mask=None, positions=None):
        return layer(x, merge_masks(padding_mask, attention_mask), positions)

    return attend


@pytest.mark.parametrize(
    "check",
    [
        properties.check_padding_content,
        properties.check_padded_length,
        properties.check_causal,
        properties.check_positions,
        properties.check_empty_rows,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_properties(norm, check):
    check(attend_with(make(norm=norm, normalizer="softmax_plus")))


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_float16"])
def test_a_row_of_padding_is_finite_in_low_precision(policy):
    properties.check_empty_rows(attend_with(make(norm="rms_norm", dtype=policy)))


def test_low_precision_follows_float32_far_out():
    properties.check_far_positions(
        make, lambda layer, x, positions: layer(x, positions=positions)
    )


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout"])
def test_dropout(rate):
    def build(dropout):
        return make(**{rate: dropout})

    properties.check_dropout(build)


def test_sizes_and_names_that_do_not_fit():
    with pytest.raises(ValueError, match="hidden_dim=12, num_heads=5"):
        TransformerLayer(5, 16)(np.zeros((1, 3, 12), "float32"))
    with pytest.raises(ValueError, match="Did you mean 'rms_norm'"):
        TransformerLayer(2, 16, norm="rms_nrom")
    with pytest.raises(ValueError, match="even, positive"):
        make(key_dim=5)(np.zeros((1, 3, 12), "float32"))
