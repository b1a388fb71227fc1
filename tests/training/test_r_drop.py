"""R-Drop against NumPy, and the divergence it is made of."""

import embedding_classifier as by_hand
import keras
import numpy as np
import pytest
from contract import to_numpy
from embedding_classifier import batch, make, training_step
from gradients import gradient

from bert4keras3.training.divergence import Divergence, mean_divergence
from bert4keras3.training.extra_loss import TrainingStep
from bert4keras3.training.r_drop import RDrop

pytestmark = pytest.mark.backend


def logits(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_numpy(monkeypatch, weighted):
    model, (x, y) = make(keras.layers.Dropout(0.5, seed=1)), batch()
    weight = np.array([0.0, 1, 2, 1, 0.5, 3], "float32") if weighted else None
    step = training_step(model, x, y, weight)
    passes, forward = [], TrainingStep.forward
    monkeypatch.setattr(
        TrainingStep,
        "forward",
        lambda *a, **k: passes.append(forward(*a, **k)) or passes[-1],
    )
    given = float(to_numpy(RDrop(alpha=3.0)(step)))
    assert len(passes) == 1
    first, second = (to_numpy(p) for p in (step.y_pred, passes[0][1]))
    assert np.abs(first - second).max() > 0.1
    factor = np.ones(len(x)) if weight is None else weight
    p, q = by_hand.log_softmax(first), by_hand.log_softmax(second)
    rows = np.arange(len(x))
    loss1, loss2 = (-(each[rows, y] * factor).mean() for each in (p, q))
    apart = ((np.exp(p) - np.exp(q)) * (p - q)).sum(-1)
    expected = (loss2 - loss1) / 2 + 3.0 / 4 * (apart * factor).mean()
    assert given == pytest.approx(expected, abs=1e-4)


def test_without_dropout_it_is_zero():
    model, (x, y) = make(keras.layers.Dropout(0.0)), batch()
    given = float(to_numpy(RDrop()(training_step(model, x, y))))
    assert given == pytest.approx(0, abs=1e-6)


def test_with_dropout_predictions_are_apart():
    model, (x, y) = make(keras.layers.Dropout(0.5, seed=1)), batch()
    step = training_step(model, x, y)
    assert float(to_numpy(RDrop(alpha=8.0)(step))) > 0.1


def test_both_passes_are_trained():
    """The gradient of a symmetric divergence flows into both predictions."""
    p, q = logits((2, 3)), logits((2, 3), seed=1)
    d_p, d_q = gradient(
        lambda p, q: mean_divergence(p, q) + mean_divergence(q, p), p, q
    )
    assert np.abs(d_p).min() > 1e-4 and np.abs(d_q).min() > 1e-4


def test_divergence_of_logits_and_probabilities():
    p, q = logits((2, 5, 3)), 3 * logits((2, 5, 3), seed=1)
    expected = by_hand.divergence(by_hand.log_softmax(p), by_hand.log_softmax(q))
    assert float(Divergence()(p, q)) == pytest.approx(expected, abs=1e-5)
    probabilities = [np.exp(by_hand.log_softmax(each)) for each in (p, q)]
    given = float(Divergence(from_logits=False)(*probabilities))
    assert given == pytest.approx(expected, abs=1e-5)
    # Certain predictions, with zero probabilities.
    assert np.isfinite(float(Divergence(from_logits=False)(np.eye(3), np.eye(3)[::-1])))


def test_divergence_of_half_precision_is_float32():
    p = keras.ops.cast(logits((2, 3)), "float16")
    assert keras.backend.standardize_dtype(Divergence()(p, 2 * p).dtype) == "float32"


def test_divergence_of_several_outputs():
    p = {"start": logits((2, 4)), "end": logits((2, 6))}
    q = {"start": 2 * p["start"], "end": 3 * p["end"]}
    apart = [float(Divergence()(p[name], q[name])) for name in ("start", "end")]
    assert float(mean_divergence(p, q)) == pytest.approx(sum(apart), rel=1e-6)
    zero = np.zeros(2, "float32")
    weights = {"start": zero, "end": zero + 1}
    given = float(mean_divergence(p, q, sample_weight=weights))
    assert given == pytest.approx(apart[1], rel=1e-6)
    assert float(mean_divergence(p, q, sample_weight=zero)) == 0.0


def test_divergence_weights_tokens():
    p, q = logits((2, 3, 4)), logits((2, 3, 4), seed=1)
    weights = np.array([[1, 1, 0], [1, 0, 0]], "float32")
    changed = np.where(weights[..., None] > 0, q, 7.0).astype("float32")
    one, other = (float(mean_divergence(p, r, True, weights)) for r in (q, changed))
    assert one == pytest.approx(other, rel=1e-6) and one > 0


def test_one_score_is_no_prediction():
    with pytest.raises(ValueError, match="two outputs"):
        mean_divergence(np.zeros((3, 1)), np.zeros((3, 1)))


@pytest.mark.parametrize("made", [RDrop(2.0, False), Divergence(False)])
def test_config_round_trip(made):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(made)
    )
    assert type(again) is type(made) and again.get_config() == made.get_config()


def test_wrong_argument():
    with pytest.raises(ValueError, match="`alpha` must be at least 0"):
        RDrop(alpha=-1)
