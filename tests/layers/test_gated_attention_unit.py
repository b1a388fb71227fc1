"""Gated attention units against the original, the formulas, and common sense."""

from functools import partial

import attention_properties as properties
import golden_layers
import keras
import numpy as np
import pytest
import reference
from contract import assign, named_weights, randomize, to_numpy

from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax
from bert4keras3.layers.gated_attention_unit import (
    CrossGatedAttentionUnit,
    GatedAttentionUnit,
)

RNG = np.random.default_rng(17)
NORMALIZERS = ("softmax", "softmax_plus", "squared_relu")
FORMULA = {"softmax_plus": "entropy_invariant_softmax"}
QUIRK = "gau_cross_samelen_qmask_quirk"
SELF = golden_layers.names("gau_", without=("gau_cross",))
CROSS = golden_layers.names("gau_cross", without=(QUIRK,))
# squared_relu divides no large sum by itself: its outputs are far above one.
RELATIVE = {"squared_relu": 1e-4}


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def build(case):
    """Our layer with the original's weights, and the formula's options."""
    ctor, rotary = case.ctor, case.options.get("p_bias") == "rotary"
    e, s = ctor["units"], ctor["key_size"]
    activation = golden_layers.ACTIVATIONS[ctor["activation"]]
    cross = not ctor.get("self_attention", True)
    layer = (CrossGatedAttentionUnit if cross else GatedAttentionUnit)(
        e,
        key_dim=s,
        activation=activation,
        normalizer=ctor["normalization"],
        rotary_embedding="rope" if rotary else None,
        use_bias=ctor["use_bias"],
        use_scale=ctor.get("attention_scale", True),
    )
    if cross:
        layer.build(*(case.inputs[name].shape for name in "qkv"))
        columns = [("gate_dense", e), ("query_dense", s)]
        weights = golden_layers.sides(case.weights, "uq_dense", columns)
        table = {"k_dense": "key_dense", "v_dense": "value_dense"}
    else:
        layer.build(case.inputs["x"].shape)
        columns = [("gate_dense", e), ("value_dense", e), ("shared_dense", s)]
        weights = golden_layers.sides(case.weights, "i_dense", columns)
        table = {"q_scaleoffset": "query_scale", "k_scaleoffset": "key_scale"}
    table["o_dense"] = "output_dense"
    weights |= golden_layers.renamed(case.weights, table)
    assign(layer, weights)
    formula = {
        "activation": activation,
        "normalizer": FORMULA.get(ctor["normalization"], ctor["normalization"]),
        "rotary": rotary,
        "use_scale": ctor.get("attention_scale", True),
    }
    return layer, weights, formula


def check_golden(given, formula, case):
    rtol = RELATIVE.get(case.ctor["normalization"], 0)
    for result in (to_numpy(given), formula):
        np.testing.assert_allclose(
            result, case.outputs[0], rtol=rtol, atol=golden_layers.TOLERANCE
        )


@pytest.mark.parametrize("name", SELF)
def test_golden_self(name):
    case = golden_layers.read(name)
    layer, weights, formula = build(case)
    x, added = case.inputs["x"], case.inputs.get("a_bias")
    if formula["rotary"]:
        golden_layers.check_positions_count_from_zero(case.inputs["pos"])
    padding = case.masks.get("x")
    arguments = {"padding_mask": padding}
    visible = None if padding is None else padding[:, None, None, :] > 0
    if added is not None and added.dtype == bool:
        arguments["attention_mask"] = added
        structure = added if added.ndim == 2 else added[:, None]
        visible = structure if visible is None else visible & structure
    elif added is not None:
        arguments["attention_bias"] = added
        formula["bias"] = added[:, None]
    x64 = x.astype("float64")
    expected = reference.gau(x64, weights, visible=visible, **formula)
    check_golden(layer(x, **arguments), expected, case)


@pytest.mark.parametrize("name", CROSS)
def test_golden_cross(name):
    case = golden_layers.read(name)
    assert not case.masks
    layer, weights, formula = build(case)
    arrays = [case.inputs[each] for each in "qkv"]
    expected = reference.cross_gau(
        *(each.astype("float64") for each in arrays), weights, **formula
    )
    check_golden(layer(*arrays), expected, case)


def test_golden_cross_mask_quirk():
    """The original hides keys by the query's mask; here the caller says which."""
    case = golden_layers.read(QUIRK)
    layer, weights, formula = build(case)
    arrays = [case.inputs[each] for each in "qkv"]
    assert not np.array_equal(case.masks["q"], case.masks["k"])

    def by_formula(mask):
        return reference.cross_gau(
            *(each.astype("float64") for each in arrays),
            weights,
            visible=mask[:, None, None, :] > 0,
            **formula,
        )

    quirk = layer(*arrays, padding_mask=case.masks["q"])
    check_golden(quirk, by_formula(case.masks["q"]), case)
    right = to_numpy(layer(*arrays, padding_mask=case.masks["k"]))
    np.testing.assert_allclose(right, by_formula(case.masks["k"]), atol=1e-4)
    assert np.abs(right - case.outputs[0]).max() > 0.01


def test_no_golden_case_is_left_out():
    assert sorted([*SELF, *CROSS, QUIRK]) == golden_layers.names("gau_")


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_self_against_the_formulas(normalizer, use_bias):
    x, positions = normal(2, 6, 7), RNG.uniform(0, 90, size=(2, 6)).astype("float32")
    padding = np.arange(6) < np.array([[6], [4]])
    structure = np.broadcast_to(RNG.random((2, 6, 6)) < 0.7, (2, 6, 6))
    layer = GatedAttentionUnit(
        10, 4, "gelu", normalizer, rotary_embedding="rope", use_bias=use_bias
    )
    layer.build(x.shape)
    weights = randomize(layer)
    assert ("query_scale/offset" in weights) == use_bias
    given = layer(x, padding, structure, positions=positions)
    expected = reference.gau(
        x.astype("float64"),
        weights,
        activation="gelu",
        positions=positions,
        rotary=True,
        visible=(structure & padding[:, None])[:, None],
        normalizer=FORMULA.get(normalizer, normalizer),
    )
    np.testing.assert_allclose(to_numpy(given), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_cross_against_the_formulas_with_unequal_lengths(normalizer):
    query, key, value = normal(2, 3, 7), normal(2, 8, 5), normal(2, 8, 6)
    padding = np.arange(8) < np.array([[8], [2]])
    layer = CrossGatedAttentionUnit(
        10, 4, normalizer=normalizer, rotary_embedding="rope"
    )
    layer.build(query.shape, key.shape, value.shape)
    weights = randomize(layer)
    positions = {
        "query_positions": np.array([20, 30, 31]),
        "key_positions": np.arange(8) * 2,
    }
    given = to_numpy(layer(query, key, value, padding_mask=padding, **positions))
    expected = reference.cross_gau(
        *(each.astype("float64") for each in (query, key, value)),
        weights,
        rotary=True,
        visible=padding[:, None, None],
        normalizer=FORMULA.get(normalizer, normalizer),
        **positions,
    )
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=2e-5)


def test_cross_hides_keys_by_the_key_mask():
    query, key = normal(2, 3, 7), normal(2, 8, 5)
    padding = np.arange(8) < np.array([[8], [2]])
    layer = CrossGatedAttentionUnit(10, 4, normalizer="softmax_plus")
    expected = to_numpy(layer(query, key, padding_mask=padding))
    other = np.where(padding[..., None], key, 30 * normal(2, 8, 5))
    given = to_numpy(layer(query, other, padding_mask=padding))
    np.testing.assert_allclose(given, expected, atol=1e-5)
    shorter = to_numpy(layer(query[1:], key[1:, :2]))
    np.testing.assert_allclose(shorter, expected[1:], atol=1e-5)
    assert np.abs(to_numpy(layer(query, key)) - expected)[1].max() > 1e-4


def test_cross_takes_the_key_as_value_by_default():
    query, key = normal(2, 3, 7), normal(2, 4, 5)
    layer = CrossGatedAttentionUnit(10, 4)
    np.testing.assert_array_equal(
        to_numpy(layer(query, key)), to_numpy(layer(query, key, key))
    )


def random_layer(normalizer="softmax_plus", **options):
    layer = GatedAttentionUnit(
        16, 6, normalizer=normalizer, rotary_embedding="rope", **options
    )
    layer.build((None, None, properties.D))
    randomize(layer)
    return layer


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize(
    "check",
    [
        properties.check_padding_content,
        properties.check_padded_length,
        properties.check_causal,
        properties.check_positions,
    ],
    ids=lambda check: check.__name__,
)
def test_properties(check, normalizer):
    check(random_layer(normalizer))


def test_causal_without_a_floor_of_the_length():
    # The first row sees one key: ln 1 = 0 makes its temperature zero.
    properties.check_causal(random_layer(EntropyInvariantSoftmax(min_length=1)))


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "mixed_float16"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_row_of_padding_gives_zeros(normalizer, policy):
    layer = random_layer(normalizer, use_bias=False, dtype=policy)
    assert np.all(properties.check_empty_rows(layer) == 0)
    layer = random_layer(normalizer, use_bias=True, dtype=policy)
    bias = to_numpy(named_weights(layer)["output_dense/bias"])
    empty = properties.check_empty_rows(layer)
    np.testing.assert_allclose(empty, np.broadcast_to(bias, empty.shape), rtol=0.01)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_low_precision_follows_float32_far_out(normalizer):
    make = partial(
        GatedAttentionUnit, 16, 6, normalizer=normalizer, rotary_embedding="rope"
    )
    properties.check_far_positions(
        make,
        lambda layer, x, positions: layer(x, positions=positions),
        power=2 if normalizer == "squared_relu" else 1,
    )


def test_dropout():
    properties.check_dropout(partial(GatedAttentionUnit, 16, 6))


def test_a_bias_added_to_the_logits_moves_attention():
    x, layer = normal(2, 5, properties.D), random_layer()
    bias = np.zeros((2, 5, 5), "float32")
    bias[1, :, 3] = 1e4
    given = to_numpy(layer(x, attention_bias=bias))
    only = np.zeros((2, 5, 5), bool)
    only[0] = True
    only[1, :, 3] = True
    expected = to_numpy(layer(x, attention_mask=only))
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_an_odd_key_size_needs_no_rotation():
    x = normal(1, 3, 8)
    assert tuple(GatedAttentionUnit(8, key_dim=5)(x).shape) == (1, 3, 8)
    for layer in (GatedAttentionUnit, CrossGatedAttentionUnit):
        with pytest.raises(ValueError, match="even, positive"):
            inputs = (x, x)[: 1 + (layer is CrossGatedAttentionUnit)]
            layer(8, key_dim=5, rotary_embedding="rope")(*inputs)


def test_masks_of_another_rank_are_refused():
    x, layer = normal(2, 5, properties.D), random_layer()
    with pytest.raises(ValueError, match="`padding_mask` must have shape"):
        layer(x, padding_mask=np.ones((2, 1, 5), bool))
    with pytest.raises(ValueError, match="`attention_mask` must have shape"):
        layer(x, attention_mask=np.ones(5, bool))
    with pytest.raises(ValueError, match="`attention_bias` must have shape"):
        layer(x, attention_bias=np.ones(5, "float32"))


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'squared_relu'"):
        GatedAttentionUnit(8, normalizer="square_relu")
    with pytest.raises(TypeError, match="rotary embedding"):
        GatedAttentionUnit(8, rotary_embedding=keras.layers.Dense(2))
