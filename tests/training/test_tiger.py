"""Tiger against plain NumPy."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from optimizer_contract import (
    arrays,
    assert_same,
    check_mixed_precision,
    check_optimizer,
    trajectory,
)

from bert4keras3.training.tiger import Tiger

pytestmark = pytest.mark.backend


def reference(rate, beta, decay, steps):
    found = {}
    for path, w in arrays()["init"].items():
        w, m, rows = w.astype("float64"), 0.0, []
        for t, g in enumerate(arrays()["grads"][path].astype("float64")):
            m = (beta if t % steps == 0 else 1.0) * m + (1 - beta) / steps * g
            if (t + 1) % steps == 0:
                if path.endswith(("bias", "gamma")):
                    w = w - rate / 2 * np.sign(m)
                else:
                    axis = -1 if "embeddings" in path else None
                    size = np.sqrt(np.mean(w**2, axis=axis, keepdims=True))
                    w = w - rate * size * (np.sign(m) + decay * w)
            rows.append(w)
        found[path] = np.stack(rows)
    return found


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_equals_numpy(steps, compiled):
    optimizer = Tiger(0.01, 0.9, 0.1, momentum_accumulation_steps=steps)
    ours = trajectory(optimizer, compiled=compiled)
    assert_same(ours, reference(0.01, 0.9, 0.1, steps))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_shrinks(bad):
    kernel = keras.Variable(np.full((2, 2), 3.0, "float32"), name="kernel")
    scale = keras.Variable(np.full(2, 3.0, "float32"), name="scale")
    optimizer = Tiger(0.1, shrink_ratio=0.5)
    bad = keras.ops.convert_to_tensor(np.float32(bad))
    optimizer.apply(
        [keras.ops.ones((2, 2)) * bad, keras.ops.ones(2) * bad], [kernel, scale]
    )
    np.testing.assert_allclose(to_numpy(kernel), 1.5)
    np.testing.assert_allclose(to_numpy(scale), 2.0)
    for momentum in optimizer._momentums:
        np.testing.assert_array_equal(to_numpy(momentum), 0.0)


def test_trains_saves_and_goes_on(tmp_path):
    check_optimizer(lambda: Tiger(0.05, momentum_accumulation_steps=2), tmp_path)


def test_mixed_precision():
    check_mixed_precision(lambda: Tiger(0.01))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"momentum_accumulation_steps": 0}, "must be at least 1"),
        (
            {"momentum_accumulation_steps": 2, "gradient_accumulation_steps": 2},
            "and 1 beside",
        ),
        ({"by_row": "embeddings"}, "`by_row` is a list of patterns"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        Tiger(**arguments)
