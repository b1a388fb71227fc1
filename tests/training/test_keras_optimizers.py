"""What is left to Keras, against bert4keras where the maths agrees."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from optimizer_contract import arrays, assert_same, options, spec, trajectory

from bert4keras3.training.lamb import LAMB

pytestmark = pytest.mark.backend


def test_lion():
    optimizer = keras.optimizers.Lion(
        options("Lion")["learning_rate"], beta_1=0.95, beta_2=0.98
    )
    assert_same(trajectory(optimizer), arrays()["Lion"])


def test_adamw_but_for_epsilon():
    given = options("AdamW")
    optimizer = keras.optimizers.AdamW(
        given["learning_rate"], weight_decay=given["weight_decay_rate"], epsilon=1e-6
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"])
    # One gradient is so small that the place of epsilon shows.
    assert_same(trajectory(optimizer), arrays()["AdamW"], 2e-4)


def test_averages_but_for_their_start():
    """Keras starts at `w_1`, bert4keras at 0: apart by a multiple of `w_1`."""
    momentum, steps = options("AdamEMA")["ema_momentum"], spec()["steps"]
    optimizer = LAMB(
        options("AdamEMA")["learning_rate"],
        weight_decay=None,
        bias_correction=True,
        exclude_from_layer_adaptation=[""],
        use_ema=True,
        ema_momentum=momentum,
    )
    ours = trajectory(optimizer)
    assert_same(ours, arrays()["AdamEMA"])
    start = momentum**steps
    averages = {
        variable.path: to_numpy(average) - start * ours[variable.path][0]
        for variable, average in zip(
            optimizer._trainable_variables,
            optimizer._model_variables_moving_average,
            strict=True,
        )
    }
    assert_same(averages, arrays()["AdamEMA__ema_final"])


def test_accumulation_applies_the_mean():
    accumulating = keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
    ours = trajectory(accumulating)
    for path, gradients in arrays()["grads"].items():
        weight = keras.Variable(arrays()["init"][path])
        plain = keras.optimizers.Adam(0.01)
        for k in range(spec()["steps"] // 2):
            mean = gradients[2 * k : 2 * k + 2].mean(axis=0)
            plain.apply([keras.ops.convert_to_tensor(mean)], [weight])
            np.testing.assert_allclose(
                ours[path][2 * k + 1], to_numpy(weight), atol=2e-6
            )
