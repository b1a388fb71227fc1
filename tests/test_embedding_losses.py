"""Losses of sentence vectors against plain NumPy."""

import keras
import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.embedding_losses import (
    CoSENTLoss,
    SimCSELoss,
    cosent_loss,
    simcse_loss,
)

pytestmark = pytest.mark.backend
RNG = np.random.default_rng(7)


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_cosent_equals_numpy(shape):
    vectors = RNG.standard_normal((12, 5))
    labels = RNG.integers(0, 3, 12)
    cos, label = cosines(vectors[::2], vectors[1::2]), labels[::2]
    total = 1.0
    for i in range(6):
        for j in range(6):
            if label[i] > label[j]:
                total += np.exp(20 * (cos[j] - cos[i]))
    ours = cosent_loss(labels.reshape(shape), vectors.astype("float32"))
    assert float(ours) == pytest.approx(np.log(total), rel=1e-5)


def test_simcse_equals_numpy():
    vectors = RNG.standard_normal((8, 5))
    expected = []
    for i in range(8):
        others = [j for j in range(8) if j != i]
        logits = [cosines(vectors[i], vectors[j]) / 0.05 for j in others]
        right = cosines(vectors[i], vectors[i ^ 1]) / 0.05
        expected.append(np.log(np.exp(logits).sum()) - right)
    ours = simcse_loss(None, vectors.astype("float32"))
    np.testing.assert_allclose(to_numpy(ours), expected, rtol=1e-4)


@pytest.mark.parametrize("loss", [CoSENTLoss(), SimCSELoss()])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_finite_at_extremes(loss, dtype):
    largest = np.finfo(dtype).max
    for scale in (0.0, np.finfo(dtype).tiny, largest):
        vectors = np.tile([[1.0, 1.0], [-1.0, -1.0]], (3, 1)).astype(dtype) * scale
        labels = np.array([0, 0, 1, 1, 0, 0])
        weight = keras.Variable(vectors.astype("float32"))
        model_free = float(loss(labels, vectors))
        assert np.isfinite(model_free)
        slope = gradient(lambda x, y=labels: loss(y, x), weight)
        assert np.isfinite(slope).all()


def gradient(function, variable):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function(variable.value)
        return to_numpy(tape.gradient(value, variable.value))
    if backend == "jax":
        import jax

        return to_numpy(jax.grad(function)(variable.value))
    function(variable.value).backward()
    return variable.value.grad.numpy()


def test_equal_labels_cost_nothing():
    vectors = RNG.standard_normal((4, 3)).astype("float32")
    assert float(cosent_loss(np.ones(4), vectors)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", [CoSENTLoss(scale=10.0), SimCSELoss(temperature=0.1)])
def test_training_lowers_it(loss):
    x = RNG.standard_normal((8, 6)).astype("float32")
    y = np.repeat([0, 1, 0, 1], 2).astype("float32")
    model = keras.Sequential([keras.Input((6,), batch_size=8), keras.layers.Dense(4)])
    compiled = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=compiled)
    losses = [float(model.train_on_batch(x, y)) for _ in range(8)]
    assert losses[-1] < losses[0]
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


def test_wrong_shapes():
    for shape in ((3, 4), (0, 4), (2, 3, 4)):
        with pytest.raises(ValueError, match="pairs in rows 2k"):
            simcse_loss(None, np.zeros(shape, "float32"))
        with pytest.raises(ValueError, match="batches of an even size"):
            cosent_loss(np.zeros(4), np.zeros(shape, "float32"))
    with pytest.raises(ValueError, match="`temperature` must be above 0"):
        simcse_loss(None, np.ones((2, 2), "float32"), temperature=0.0)
