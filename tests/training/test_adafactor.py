"""AdaFactor against the trajectories of bert4keras."""

import keras
import numpy as np
import pytest
from optimizer_contract import (
    arrays,
    assert_same,
    check_mixed_precision,
    check_optimizer,
    options,
    trajectory,
)

from bert4keras3.training.adafactor import AdaFactor, RelativeStep

pytestmark = pytest.mark.backend


def from_original(case):
    """Ours, with the arguments that the original was given."""
    names = {"beta1": "beta_1"}
    given = options(case).items()
    return AdaFactor(**{names.get(key, key): value for key, value in given})


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", ["AdaFactor_lr", "AdaFactor_none"])
def test_golden_trajectories(case, compiled):
    ours = trajectory(from_original(case), compiled=compiled)
    assert_same(ours, arrays()[case])


def test_trains_saves_and_goes_on(tmp_path):
    check_optimizer(
        lambda: AdaFactor(None, beta_1=0.9, min_dim_size_to_factor=2), tmp_path
    )


def test_mixed_precision():
    check_mixed_precision(lambda: AdaFactor(1e-2))


def test_factored_slots_are_small():
    kernel = keras.Variable(np.ones((3, 200, 150), "float32"), name="kernel")
    optimizer = AdaFactor()
    optimizer.build([kernel])
    shapes = sorted(tuple(v.shape) for v in optimizer.variables if len(v.shape) > 0)
    assert shapes == [(3, 1, 150), (3, 200, 1)]
    full = AdaFactor(min_dim_size_to_factor=151)
    full.build([kernel])
    assert (3, 200, 150) in {tuple(v.shape) for v in full.variables}


def test_a_given_beta_2_and_no_clipping():
    weight = keras.Variable(np.full(4, 2.0, "float32"), name="kernel")
    optimizer = AdaFactor(
        0.1, beta_2=0.75, clip_threshold=None, multiply_by_parameter_scale=False
    )
    optimizer.apply([np.full(4, 3.0, "float32")], [weight])
    # u = g / sqrt(0.25 g^2) = 2
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(weight.value), 2.0 - 0.1 * 2.0, rtol=1e-6
    )


def test_config_keeps_the_missing_rate():
    optimizer = AdaFactor(None, multiply_by_parameter_scale=False)
    assert float(optimizer.learning_rate) == pytest.approx(0.0005)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.get_config()["learning_rate"] is None


def test_relative_step():
    assert float(RelativeStep()(9_998)) == pytest.approx(0.01)
    assert float(RelativeStep(0.5)(999_999)) == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"beta_1": 1.0}, "`beta_1` is the weight of the past"),
        ({"beta_2": -0.1}, "`beta_2` is the weight of the past"),
        ({"exclude_from_parameter_scale": "bias"}, r"write \['bias'\]"),
        ({"exclude_from_parameter_scale": ["("]}, "regular expressions"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        AdaFactor(**arguments)
