"""Losses: fixtures, formulas, extremes."""

import golden_layers
import keras
import numpy as np
import pytest
from contract import to_numpy
from gradients import gradient

from bert4keras3.losses import (
    MultilabelCategoricalCrossentropy,
    SparseMultilabelCategoricalCrossentropy,
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)

RNG = np.random.default_rng(8)


def normal(*shape):
    return RNG.normal(0, 3, size=shape).astype("float32")


def by_formula(targets, logits):
    """Row by row in float64."""
    losses = np.zeros(logits.shape[:-1])
    for where in np.ndindex(losses.shape):
        t, s = targets[where].astype("float64"), logits[where].astype("float64")
        losses[where] = np.log(1 + np.sum((1 - t) * np.exp(s)))
        losses[where] += np.log(1 + np.sum(t * np.exp(-s)))
    return losses


def close_to_the_largest(given, expected):
    np.testing.assert_allclose(given, expected, atol=1e-3 * np.abs(expected).max())


# --- fixtures -------------------------------------------------------------------


def test_golden_multilabel():
    stored = golden_layers.arrays("loss_multilabel_ce")
    for targets, logits, loss in [
        ("y_true", "y_pred", "loss"),
        ("y_soft", "y_pred", "loss_soft"),
        ("y_true_inf", "y_pred_inf", "loss_inf"),
        ("y_true", "y_pred_big", "loss_big"),
        (None, "y_pred", "loss_none"),
    ]:
        y_true = stored[targets] if targets else np.zeros_like(stored[logits])
        given = multilabel_categorical_crossentropy(y_true, stored[logits])
        np.testing.assert_allclose(to_numpy(given), stored[loss], rtol=1e-5)


@pytest.mark.parametrize("tag", ["", "_soft"])
def test_golden_multilabel_gradient(tag):
    stored = golden_layers.arrays("loss_multilabel_ce")
    targets = stored["y_soft" if tag else "y_true"]
    given = gradient(
        lambda s: multilabel_categorical_crossentropy(targets, s), stored["y_pred"]
    )[0]
    close_to_the_largest(given, stored[f"grad{tag}"])


def test_golden_sparse():
    stored = golden_layers.arrays("loss_sparse_multilabel_ce")
    logits, labels = stored["y_pred"], stored["y_true"]
    given = sparse_multilabel_categorical_crossentropy(labels, logits)
    np.testing.assert_allclose(to_numpy(given), stored["loss"], rtol=1e-5)
    slope = gradient(
        lambda s: sparse_multilabel_categorical_crossentropy(labels, s), logits
    )[0]
    close_to_the_largest(slope, stored["grad"])
    given = sparse_multilabel_categorical_crossentropy(
        stored["y_true_mask_zero"], logits, mask_zero=True
    )
    np.testing.assert_allclose(to_numpy(given), stored["loss_mask_zero"], rtol=1e-5)


# --- formulas -------------------------------------------------------------------


def test_against_the_formula():
    logits = normal(2, 3, 9)
    hard = (RNG.random((2, 3, 9)) < 0.3).astype("float32")
    for targets in (hard, RNG.random((2, 3, 9)).astype("float32")):
        given = multilabel_categorical_crossentropy(targets, logits)
        np.testing.assert_allclose(
            to_numpy(given), by_formula(targets, logits), rtol=1e-5
        )


def test_sparse_equals_dense():
    logits = normal(4, 6)
    indices = np.array([[1, 5, -1], [-1, -1, -1], [0, 0, 3], [2, 4, 5]], "int32")
    dense = np.zeros((4, 6), "float32")
    for row, columns in enumerate(indices):
        dense[row, columns[columns >= 0]] = 1
    for sparse, full in [
        (
            sparse_multilabel_categorical_crossentropy,
            multilabel_categorical_crossentropy,
        ),
    ]:
        np.testing.assert_allclose(
            to_numpy(sparse(indices, logits)), to_numpy(full(dense, logits)), rtol=1e-6
        )
        np.testing.assert_allclose(
            gradient(lambda s, f=sparse: f(indices, s), logits)[0],
            gradient(lambda s, f=full: f(dense, s), logits)[0],
            atol=1e-6,
        )


def test_one_right_class_is_the_softmax_cross_entropy_with_a_threshold():
    # log(1 + sum_i exp(s_i - 0)) + log(1 + exp(-s_t)): with the other logits against
    # a threshold of 0 in place of s_t.
    logits = np.array([[2.0, -1.0, 0.5]], "float32")
    given = multilabel_categorical_crossentropy(np.array([[1.0, 0, 0]]), logits)
    expected = np.log(1 + np.exp(-1) + np.exp(0.5)) + np.log(1 + np.exp(-2.0))
    np.testing.assert_allclose(to_numpy(given), [expected], rtol=1e-6)


# --- extremes -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_finite_at_every_extreme(dtype):
    hard = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], "float32")
    indices = np.array([[0, 2, -1, -1], [2, 3, -1, -1], [0, 1, 2, 3], [-1] * 4])
    size = 6e4 if dtype == "float16" else 1e4
    worst = size * (1 - 2 * hard)
    mixed = size * np.array([[1, 1, -1, -1]] * 4, "float32")
    for logits in (worst, -worst, mixed, -mixed):

        def dense(s):
            return multilabel_categorical_crossentropy(hard, keras.ops.cast(s, dtype))

        def sparse(s):
            return sparse_multilabel_categorical_crossentropy(
                indices, keras.ops.cast(s, dtype)
            )

        for loss in (dense, sparse):
            given = loss(logits)
            assert keras.backend.standardize_dtype(given.dtype) == "float32"
            assert np.all(np.isfinite(to_numpy(given)))
            slope = gradient(loss, logits)[0]
            assert np.all(np.isfinite(slope)) and np.abs(slope).max() <= 1.01
    # All wrong by far: the gradient still says so, in the sparse form too.
    for loss in (dense, sparse):
        assert np.all(to_numpy(loss(worst)) >= 0.9 * size)
        assert np.all(np.abs(gradient(loss, worst)[0]).max(-1) > 0.2)
        np.testing.assert_allclose(to_numpy(loss(-worst)), 0, atol=1e-6)


@pytest.mark.parametrize("excluded", [-1e9, -1e12, -np.inf])
def test_excluded_classes_take_no_part(excluded):
    logits = normal(2, 6)
    targets = (RNG.random((2, 6)) < 0.5).astype("float32")
    kept = np.array([0, 1, 3, 5])
    hidden = logits.copy()
    hidden[:, [2, 4]] = excluded
    targets[0, 2] = 1  # a label that the mask contradicts
    given = multilabel_categorical_crossentropy(targets, hidden)
    expected = by_formula(targets[:, kept], logits[:, kept])
    np.testing.assert_allclose(to_numpy(given), expected, rtol=1e-5)
    slope = gradient(lambda s: multilabel_categorical_crossentropy(targets, s), hidden)
    assert np.all(np.isfinite(slope[0])) and np.all(slope[0][:, [2, 4]] == 0)


# --- in a model, bad input ------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_a_model_learns_with_it(sparse):
    indices = np.array([[0, 2], [1, -1], [-1, -1], [3, 3]], "int32")
    targets = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0] * 4, [0, 0, 0, 1]], "float32")
    loss = (
        SparseMultilabelCategoricalCrossentropy()
        if sparse
        else MultilabelCategoricalCrossentropy()
    )
    config = keras.saving.serialize_keras_object(loss)
    loss = keras.saving.deserialize_keras_object(config)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    compiled = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.Adam(0.3), loss, jit_compile=compiled)
    x = np.eye(4, dtype="float32")
    for _ in range(40):
        last = model.train_on_batch(x, indices if sparse else targets)
    assert last < 0.2
    np.testing.assert_array_equal(to_numpy(model(x)) > 0, targets > 0)


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        multilabel_categorical_crossentropy(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="same shape"):
        multilabel_categorical_crossentropy(np.zeros(3), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"shape \(..., K\)"):
        sparse_multilabel_categorical_crossentropy(np.zeros(3), np.zeros((2, 3)))


def test_mask_zero_is_kept_in_the_config():
    loss = SparseMultilabelCategoricalCrossentropy(mask_zero=True)
    assert type(loss).from_config(loss.get_config()).mask_zero
    logits = normal(2, 5)
    given = loss(np.array([[1, 0], [0, 0]]), logits)
    expected = sparse_multilabel_categorical_crossentropy(
        np.array([[1, -1], [-1, -1]]), np.where(np.arange(5) == 0, -1e9, logits)
    )
    np.testing.assert_allclose(float(given), to_numpy(expected).mean(), rtol=1e-6)
