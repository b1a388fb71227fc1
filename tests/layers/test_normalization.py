"""Norms, scale and offset, plain and conditional."""

import golden_layers
import keras
import numpy as np
import pytest
import reference
from contract import assign, call, named_weights, randomize, to_numpy
from gradients import gradient

from bert4keras3 import ops
from bert4keras3.layers import normalization
from bert4keras3.layers.normalization import (
    NORMS,
    ConditionalLayerNormalization,
    ConditionalScaleOffset,
    RMSNorm,
    ScaleOffset,
)

RNG = np.random.default_rng(23)
PLAIN = golden_layers.names("ln_", "rms_", without=("ln_cond",))
CONDITIONAL = golden_layers.names("ln_cond", "scale_offset_cond")
SCALES = golden_layers.names("scale_offset", without=("scale_offset_cond",))
CONDITION_TABLE = {
    "": "base",
    "hidden_dense": "hidden_dense",
    "beta_dense": "offset_dense",
    "gamma_dense": "scale_dense",
}


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def check_golden(given, case):
    np.testing.assert_allclose(
        to_numpy(given), case.outputs[0], rtol=1e-5, atol=golden_layers.TOLERANCE
    )


def scaled(x, weights):
    """`x * gamma + beta` by our layer, with what the original stored of the two."""
    layer = ScaleOffset("scale" in weights, "offset" in weights)
    layer.build(x.shape)
    assign(layer, weights)
    return layer(x)


@pytest.mark.parametrize("name", PLAIN)
def test_golden(name):
    case = golden_layers.read(name)
    x = case.inputs["x"]
    ctor = {"zero_mean": True, "unit_variance": True, "epsilon": 1e-7, **case.ctor}
    arguments = [ctor[key] for key in ("zero_mean", "unit_variance", "epsilon")]
    weights = golden_layers.renamed(case.weights, {"": ""})
    # The formula that every norm here stands on ...
    standard = ops.standardize(keras.ops.convert_to_tensor(x), *arguments)
    check_golden(scaled(standard, weights), case)
    formula = reference.standardize(x, *arguments)
    check_golden(reference.scale_offset(formula, weights), case)
    # ... and the layer that models use for this case, if there is one.
    if arguments[:2] == [True, True] and weights:
        layer = normalization.make("layer_norm", epsilon=ctor["epsilon"])
        layer.build(x.shape)
        assign(layer, golden_layers.renamed(case.weights, {"": ""}, kinds={}))
        check_golden(layer(x), case)
    if arguments[:2] == [False, True]:
        check_golden(scaled(RMSNorm(ctor["epsilon"])(x), weights), case)


def test_no_golden_case_is_left_out():
    every = golden_layers.names("ln_", "rms_", "scale_offset")
    assert sorted([*PLAIN, *CONDITIONAL, *SCALES]) == every


def test_golden_covers_the_layers():
    ctors = [golden_layers.read(name).ctor for name in PLAIN]
    assert any(ctor.get("zero_mean") is False for ctor in ctors)
    assert any(ctor.get("zero_mean", True) and "epsilon" in ctor for ctor in ctors)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_golden_conditional(name):
    case = golden_layers.read(name)
    ctor = case.ctor
    is_norm = name.startswith("ln_")
    options = {
        "hidden_dim": ctor.get("hidden_units"),
        "activation": ctor.get("hidden_activation", "linear"),
        "use_scale": ctor.get("scale", True) is not False,
        "use_offset": ctor.get("offset", True) is not False,
    }
    if is_norm:
        zero_mean = ctor.get("zero_mean", True)
        layer = ConditionalLayerNormalization(zero_mean=zero_mean, **options)
    else:
        layer = ConditionalScaleOffset(**options)
    x, condition = case.inputs["x"], case.inputs["cond"]
    layer.build(x.shape, condition.shape)
    weights = golden_layers.renamed(case.weights, CONDITION_TABLE)
    for name in ("scale", "offset"):
        # A number in the place of a trained vector is a vector of that number.
        if not isinstance(ctor.get(name, True), bool):
            weights[f"base/{name}"] = np.full(x.shape[-1], ctor[name])
    prefix = "scale_offset/" if is_norm else ""
    assign(layer, {prefix + key: value for key, value in weights.items()})
    check_golden(layer(x, condition), case)

    x64 = x.astype("float64")
    formula = reference.conditional_scale_offset(
        reference.standardize(x64, zero_mean=zero_mean) if is_norm else x64,
        condition.astype("float64"),
        weights,
        options["activation"],
    )
    check_golden(formula, case)


@pytest.mark.parametrize("name", SCALES)
def test_golden_scale_offset(name):
    case = golden_layers.read(name)
    x, weights = case.inputs["x"], golden_layers.renamed(case.weights, {"": ""})
    for ours, given in (("scale", case.ctor.get("scale")), ("offset", None)):
        if isinstance(given, float):
            weights[ours] = np.full(x.shape[-1], given)
    assert ("offset" in weights) == (case.ctor.get("offset") is not False)
    check_golden(scaled(x, weights), case)


def test_rms_norm_against_the_formula():
    x = normal(2, 3, 5) * 10
    expected = reference.standardize(x, zero_mean=False, epsilon=0.5)
    np.testing.assert_allclose(to_numpy(RMSNorm(0.5)(x)), expected, atol=1e-5)
    assert not RMSNorm().weights


def test_rms_norm_of_zeros_is_zero_with_a_finite_gradient():
    x = normal(2, 3, 8)
    x[0] = 0
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        layer = RMSNorm(dtype=policy)
        assert np.all(to_numpy(layer(x))[0] == 0)
        (slope,) = gradient(lambda x, layer=layer: layer(x) ** 2, x)
        assert np.all(np.isfinite(slope))


def test_rms_norm_ignores_the_scale_of_its_input():
    x = normal(2, 8)
    np.testing.assert_allclose(
        to_numpy(RMSNorm()(x)), to_numpy(RMSNorm()(100 * x)), atol=1e-5
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_norms_are_computed_in_float32(policy, size):
    # The squares of 1e3 leave the range of float16, those of 1e-3 fall below it.
    x = (size * normal(4, 64)).astype("float32")
    condition = normal(4, 3)
    rounded = to_numpy(keras.ops.cast(x, policy.removeprefix("mixed_")))
    bound = {"mixed_float16": 2**-10, "mixed_bfloat16": 2**-7}[policy]
    for layer, zero_mean in (
        (RMSNorm(dtype=policy), False),
        (ConditionalLayerNormalization(dtype=policy), True),
        (normalization.make("layer_norm", epsilon=1e-7, dtype=policy), True),
    ):
        arrays = {"x": x, "condition": condition}
        if not isinstance(layer, ConditionalLayerNormalization):
            del arrays["condition"]
        (given,) = call(layer, arrays)
        expected = reference.standardize(rounded, zero_mean=zero_mean)
        error = np.abs(to_numpy(given) - expected).max()
        assert error <= bound * np.abs(expected).max(), type(layer)


@pytest.mark.parametrize("hidden_dim", [None, 4])
@pytest.mark.parametrize("zero_mean", [True, False])
@pytest.mark.parametrize("scale, offset", [(True, True), (True, False), (False, True)])
def test_conditional_norm_against_the_formulas(scale, offset, zero_mean, hidden_dim):
    x, condition = normal(3, 4, 6), normal(3, 5)
    layer = ConditionalLayerNormalization(
        0.01, zero_mean, scale, offset, hidden_dim, "tanh"
    )
    layer.build(x.shape, condition.shape)
    weights = reference.sub_weights(randomize(layer), "scale_offset")
    expected = reference.conditional_scale_offset(
        reference.standardize(x, zero_mean=zero_mean, epsilon=0.01),
        condition.astype("float64"),
        weights,
        "tanh",
    )
    np.testing.assert_allclose(to_numpy(layer(x, condition)), expected, atol=1e-5)


def test_a_new_condition_changes_nothing_until_it_is_learned():
    x = normal(3, 4, 6)
    layer = ConditionalLayerNormalization(hidden_dim=4)
    plain = to_numpy(normalization.make("layer_norm", epsilon=1e-7)(x))
    given = to_numpy(layer(x, normal(3, 5)))
    np.testing.assert_allclose(given, plain, atol=1e-5)


def test_a_condition_per_position():
    x, condition = normal(2, 4, 6), normal(2, 4, 5)
    layer = ConditionalScaleOffset()
    layer.build(x.shape, condition.shape)
    randomize(layer)
    whole = to_numpy(layer(x, condition))
    for t in range(4):
        alone = to_numpy(layer(x[:, t], condition[:, t]))
        np.testing.assert_allclose(alone, whole[:, t], atol=1e-5)


def test_scale_offset_starts_as_the_identity():
    x = normal(2, 3, 4)
    layer = ScaleOffset()
    np.testing.assert_array_equal(to_numpy(layer(x)), x)
    assert set(named_weights(layer)) == {"scale", "offset"}
    weights = randomize(layer)
    np.testing.assert_allclose(
        to_numpy(layer(x)), reference.scale_offset(x, weights), atol=1e-6
    )


def test_norms_by_name():
    assert set(NORMS) == {"layer_norm", "rms_norm"}
    layer = normalization.make("rms_norm", epsilon=0.25, name="n")
    assert isinstance(layer, RMSNorm) and layer.epsilon == 0.25 and layer.name == "n"
    with pytest.raises(ValueError, match="Unknown norm 'rmsnorm'.*'rms_norm'"):
        normalization.make("rmsnorm")
