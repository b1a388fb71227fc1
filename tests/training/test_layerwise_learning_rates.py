"""Factors of the rate by path, by depth and over time."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from optimizer_contract import (
    arrays,
    assert_same,
    batch,
    check_mixed_precision,
    check_optimizer,
    new_variables,
    options,
    small_model,
    trajectory,
)

from bert4keras3.models import GAUAlphaBackbone, RoFormerBackbone
from bert4keras3.training.adafactor import AdaFactor
from bert4keras3.training.lamb import LAMB
from bert4keras3.training.layerwise_learning_rates import (
    LayerwiseLearningRates,
    frozen_for,
    layer_decay,
)
from bert4keras3.training.piecewise_linear import PiecewiseLinear

pytestmark = pytest.mark.backend
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


@pytest.mark.parametrize("compiled", [False, True])
def test_golden_trajectory(compiled):
    given = options("AdamParamLR")
    # The original's Adam, whose epsilon is added after the correction of the bias;
    # Keras's adds it before, which shows where gradients are small.
    adam = LAMB(
        given["learning_rate"],
        weight_decay=None,
        bias_correction=True,
        exclude_from_layer_adaptation=[""],
    )
    optimizer = LayerwiseLearningRates(adam, given["paramwise_lr_schedule"])
    assert_same(trajectory(optimizer, compiled=compiled), arrays()["AdamParamLR"])


def test_a_factor_of_adam_is_a_factor_of_its_rate():
    ours = trajectory(LayerwiseLearningRates(Adam(0.01), {"": 0.25}))
    assert_same(ours, trajectory(Adam(0.0025)))


def test_factors_are_multiplied_and_decay_is_scaled_too():
    weights = new_variables()
    start = {v.path: to_numpy(v) for v in weights}
    optimizer = LayerwiseLearningRates(
        SGD(0.5, weight_decay=0.5), {"dense": 0.5, "bias": 0.1}
    )
    optimizer.apply([keras.ops.zeros(v.shape) for v in weights], weights)
    factors = {"dense/kernel": 0.5, "dense/bias": 0.05}
    for variable in weights:
        expected = start[variable.path] * (1 - 0.25 * factors.get(variable.path, 1.0))
        np.testing.assert_allclose(to_numpy(variable), expected, rtol=1e-5, atol=1e-7)


def test_a_frozen_layer_thaws_without_a_new_compilation():
    x, y = batch()
    model = small_model()
    optimizer = LayerwiseLearningRates(Adam(0.1), {"(^|/)emb/": frozen_for(3)})
    model.compile(optimizer, "mse", jit_compile=keras.backend.backend() != "torch")
    embeddings, kernel = model.get_layer("emb").weights[0], model.layers[-1].kernel
    start, before = to_numpy(embeddings), to_numpy(kernel)
    for _ in range(3):
        model.train_on_batch(x, y)
    function = model.train_function
    np.testing.assert_array_equal(to_numpy(embeddings), start)
    assert not np.array_equal(to_numpy(kernel), before)
    model.train_on_batch(x, y)
    assert not np.array_equal(to_numpy(embeddings), start)
    assert model.train_function is function


def make():
    return LayerwiseLearningRates(
        Adam(0.05, clipnorm=1.0, gradient_accumulation_steps=2),
        {"emb": PiecewiseLinear(1.0, {2: 1.0}), "bias": 2.0},
        use_ema=True,
        ema_momentum=0.5,
    )


def test_trains_saves_and_goes_on(tmp_path):
    check_optimizer(make, tmp_path)


def test_mixed_precision():
    check_mixed_precision(
        lambda: LayerwiseLearningRates(AdaFactor(0.01), {"emb": frozen_for(2)})
    )


def test_the_average_is_of_the_scaled_weights():
    weight = keras.Variable(np.ones(2, "float32"), name="w")
    optimizer = LayerwiseLearningRates(
        SGD(1.0), {"w": 0.5}, use_ema=True, ema_momentum=0.5
    )
    averages = []
    for _ in range(3):
        optimizer.apply([keras.ops.ones(2)], [weight])
        averages.append(to_numpy(optimizer._model_variables_moving_average[0])[0])
    # The weights are 0.5, 0, -0.5.
    np.testing.assert_allclose(averages, [0.5, 0.25, -0.125])
    optimizer.finalize_variable_values([weight])
    np.testing.assert_allclose(to_numpy(weight), -0.125)


def test_overwriting_by_the_average():
    weight = keras.Variable(np.ones(2, "float32"), name="w")
    optimizer = LayerwiseLearningRates(
        SGD(1.0), {"w": 0.5}, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
    )
    for expected in (0.5, 0.25):
        optimizer.apply([keras.ops.ones(2)], [weight])
        np.testing.assert_allclose(to_numpy(weight), expected)


@pytest.mark.parametrize("scaled", [False, True])
def test_swap_ema_weights_finds_the_average(scaled):
    x, y = batch()
    model = small_model()
    optimizer = LayerwiseLearningRates(
        SGD(0.5), {"emb": 0.5}, use_ema=True, ema_momentum=0.9
    )
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0)
    model.compile(optimizer, "mse", jit_compile=False)
    for _ in range(4):
        model.train_on_batch(x, y)
    plain = float(model.evaluate(x, y, verbose=0))
    swap = keras.callbacks.SwapEMAWeights()
    averaged = float(model.evaluate(x, y, verbose=0, callbacks=[swap]))
    assert averaged != pytest.approx(plain, rel=1e-4)
    assert float(model.evaluate(x, y, verbose=0)) == pytest.approx(plain, rel=1e-5)


def test_rate_constraint_and_missing_gradients():
    weight = keras.Variable(np.ones(2, "float32"), name="w")
    weight.constraint = keras.constraints.UnitNorm(axis=0)
    other = keras.Variable(np.ones(2, "float32"), name="other")
    optimizer = LayerwiseLearningRates(SGD(0.5), {"w": 0.5})
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([keras.ops.array([1.0, 0.0]), None], [weight, other])
    assert np.linalg.norm(to_numpy(weight)) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(to_numpy(other), np.ones(2))
    optimizer.learning_rate = 0.25
    assert float(optimizer.optimizer.learning_rate) == 0.25
    assert int(optimizer.iterations) == 1


def test_wrappers_can_be_nested():
    inner = LayerwiseLearningRates(SGD(1.0), {"w": 0.5})
    outer = LayerwiseLearningRates(inner, {"w": 0.5})
    weight = keras.Variable(np.ones(2, "float32"), name="w")
    outer.apply([keras.ops.ones(2)], [weight])
    np.testing.assert_allclose(to_numpy(weight), 0.75)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(outer))
    assert again.get_config() == outer.get_config()


def test_depth_of_our_backbones():
    sizes = {"vocabulary_size": 9, "num_layers": 11, "hidden_dim": 4}
    gau = GAUAlphaBackbone(**sizes, intermediate_dim=8, key_dim=4)
    roformer = RoFormerBackbone(**sizes, num_heads=1, intermediate_dim=8)
    expected = {
        "token_embedding/embeddings": 0.5**12,
        "gau_1/output_dense/kernel": 0.5**10,
        "gau_10/output_dense/kernel": 0.5,
        "transformer_layer_0/attention_norm/gamma": 0.5**11,
        "embeddings_norm/beta": 0.5**12,
    }
    seen = set()
    for model in (gau, roformer):
        optimizer = LayerwiseLearningRates(SGD(1.0), layer_decay(model, 0.5))
        optimizer.build(model.trainable_variables)
        for variable in model.trainable_variables:
            factor = optimizer._factor_of(variable)
            assert factor is not None
            if variable.path in expected:
                assert factor == pytest.approx(expected[variable.path])
                seen.add(variable.path)
    assert seen == set(expected)


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        ({}, "`factors` maps patterns"),
        ({"a": -1.0}, "A factor is a number of at least 0"),
        ({"a": "slow"}, "A factor is a number of at least 0"),
        ({"(": 1.0}, "regular expressions"),
    ],
)
def test_wrong_factors(factors, text):
    with pytest.raises(ValueError, match=text):
        LayerwiseLearningRates("sgd", factors)


def test_a_pattern_that_is_found_nowhere():
    optimizer = LayerwiseLearningRates("sgd", {"embeding": 0.1})
    with pytest.raises(ValueError, match="'embeding' of `factors` is found in no path"):
        optimizer.build(new_variables())


def test_wrong_inner_optimizers():
    with pytest.raises(ValueError, match="give `use_ema` to LayerwiseLearningRates"):
        LayerwiseLearningRates(SGD(use_ema=True), {"a": 1.0})
    scaled = keras.optimizers.LossScaleOptimizer(SGD())
    with pytest.raises(ValueError, match="must be the outermost"):
        LayerwiseLearningRates(scaled, {"a": 1.0})


def test_gradients_without_variables_before_build():
    with pytest.raises(ValueError, match="need an optimizer that was built"):
        LayerwiseLearningRates("sgd", {"a": 1.0}).apply([keras.ops.ones(2)])


def test_wrong_depths():
    with pytest.raises(ValueError, match="`decay` must be above 0"):
        layer_decay(small_model(), 1.5)
    with pytest.raises(ValueError, match="Say what the layers are called"):
        layer_decay(small_model(), 0.9)
    with pytest.raises(ValueError, match="`num_steps` must be at least 1"):
        frozen_for(0)
