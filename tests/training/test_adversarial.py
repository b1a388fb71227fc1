"""Terms that change the embeddings, against NumPy with gradients by hand."""

import embedding_classifier as by_hand
import keras
import numpy as np
import pytest
from contract import to_numpy
from embedding_classifier import batch, make, training_step, weights
from gradients import compiled

from bert4keras3.training.adversarial import (
    FGM,
    PGD,
    GradientPenalty,
    VirtualAdversarial,
)

pytestmark = pytest.mark.backend
TERMS = [FGM, PGD, VirtualAdversarial, GradientPenalty]


def values(terms, model, x, y, **arguments):
    """Of several terms, from one compiled function."""

    def run(batch):
        step = training_step(model, **batch)
        return [term(step) for term in terms]

    given = compiled(run)({"x": x, "y": y, **arguments})
    return [float(to_numpy(each)) for each in given]


def one_step(term, model, x, y, **arguments):
    """The loss, and what a step of SGD with rate 1 takes from the weights."""
    before = weights(model)
    model.compile(keras.optimizers.SGD(1.0), by_hand.LOSS, extra_losses=[term])
    loss = model.train_on_batch(x, y, **arguments)
    return loss, [old - new for old, new in zip(before, weights(model), strict=True)]


def steps_of_pgd(parameters, x, y, epsilon, step_size, num_steps):
    delta = 0.0
    for _ in range(num_steps):
        gradient = by_hand.loss_gradients(by_hand.moved(parameters, delta), x, y)[0]
        delta = delta + step_size * by_hand.unit(gradient)
        norm = np.sqrt((delta**2).sum())
        delta = delta * min(1.0, epsilon / norm)
    return delta


PGD_CASES = [
    (FGM(epsilon=0.7, weight=0.5), 0.7, 0.7, 1),
    (PGD(epsilon=2.0, step_size=0.7, num_steps=1, weight=0.5), 2.0, 0.7, 1),
    (PGD(epsilon=1.0, step_size=0.7, num_steps=3, weight=0.5), 1.0, 0.7, 3),
    (PGD(epsilon=9.0, step_size=2.0, num_steps=2, weight=0.5), 9.0, 2.0, 2),
]


@pytest.mark.parametrize(("term", "epsilon", "step_size", "num_steps"), PGD_CASES)
def test_gradient_steps(term, epsilon, step_size, num_steps):
    model, (x, y) = make(), batch()
    parameters = weights(model)
    delta = steps_of_pgd(parameters, x, y, epsilon, step_size, num_steps)
    changed = by_hand.moved(parameters, delta)
    expected = by_hand.loss(parameters, x, y) + 0.5 * by_hand.loss(changed, x, y)
    loss, taken = one_step(term, model, x, y)
    assert loss == pytest.approx(expected, abs=1e-4)
    # The change is a constant: only the loss at its place is differentiated.
    for given, plain, there in zip(
        taken,
        by_hand.loss_gradients(parameters, x, y),
        by_hand.loss_gradients(changed, x, y),
        strict=True,
    ):
        np.testing.assert_allclose(given, plain + 0.5 * there, atol=1e-4)


def test_changes_make_the_loss_larger_and_one_step_is_fgm():
    model, (x, y) = make(), batch()
    plain = by_hand.loss(weights(model), x, y)
    one_step = PGD(epsilon=1.0, step_size=0.5, num_steps=1)
    several_steps = PGD(epsilon=2.0, step_size=0.5, num_steps=4)
    terms = [FGM(epsilon=0.5), one_step, several_steps]
    fgm, one, several = values(terms, model, x, y)
    assert one == pytest.approx(fgm, abs=1e-6)
    assert plain < one < several


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_virtual_adversarial(monkeypatch, from_logits, num_steps):
    model, (x, y) = make(), batch()
    if not from_logits:
        model.add(keras.layers.Softmax())
        model.compile(loss="sparse_categorical_crossentropy")
    term = VirtualAdversarial(
        epsilon=0.8, xi=2.0, num_steps=num_steps, weight=3.0, from_logits=from_logits
    )
    start = np.random.default_rng(3).normal(size=(by_hand.VOCABULARY, by_hand.DIM))
    monkeypatch.setattr(
        term, "_random_direction", lambda *_: keras.ops.convert_to_tensor(start)
    )
    parameters = weights(model)
    p = by_hand.log_probabilities(parameters, x)
    direction = by_hand.unit(start)
    for _ in range(num_steps):
        there = by_hand.moved(parameters, 2.0 * direction)
        direction = by_hand.unit(by_hand.gradients(there, x, np.exp(p))[0])
    changed = by_hand.moved(parameters, 0.8 * direction)
    expected = 3.0 * by_hand.divergence(p, by_hand.log_probabilities(changed, x))
    assert expected > 0.01
    if not from_logits:
        assert values([term], model, x, y) == pytest.approx([expected], abs=1e-4)
    else:
        # The labels count nothing when every sample weight is 0.
        loss, taken = one_step(term, model, x, y, sample_weight=np.zeros(len(x)))
        assert loss == pytest.approx(expected, abs=1e-4)
        wanted = by_hand.gradients(changed, x, np.exp(p))
        for given, gradient in zip(taken, wanted, strict=True):
            np.testing.assert_allclose(given, 3.0 * gradient, atol=1e-4)


def test_virtual_adversarial_without_influence_is_zero():
    model, (x, y) = make(keras.layers.Rescaling(0.0)), batch()
    terms = [lambda step: step.loss, FGM(), PGD(), VirtualAdversarial()]
    plain, fgm, pgd, virtual = values(terms, model, x, y)
    assert fgm == pytest.approx(plain, abs=1e-6)
    assert pgd == pytest.approx(plain, abs=1e-6)
    assert virtual == pytest.approx(0.0, abs=1e-6)
    assert values([GradientPenalty()], model, x, y) == [0.0]


def test_virtual_adversarial_with_sample_weights():
    model, (x, y) = make(), batch()
    terms = [VirtualAdversarial(use_sample_weight=True), VirtualAdversarial()]
    zeros = np.zeros(len(x), "float32")
    weighted, plain = values(terms, model, x, y, sample_weight=zeros)
    assert weighted == 0.0 and plain > 0
    weighted, plain = values(terms, model, x, y, sample_weight=zeros + 1)
    assert weighted == pytest.approx(plain) and plain > 0


def test_directions_differ_by_batch_and_seed_alone():
    model, (x, _) = make(), batch()
    term, other = VirtualAdversarial(), VirtualAdversarial(seed=1)
    shape = (by_hand.VOCABULARY, by_hand.DIM)

    def direction(term, rows):
        return to_numpy(term._random_direction(shape, model(rows)))

    first = direction(term, x)
    np.testing.assert_array_equal(first, direction(term, x))
    assert not np.allclose(first, direction(term, x[:3]))
    assert not np.allclose(first, direction(other, x))
    assert abs(first.mean()) < 1 and 0.4 < first.std() < 1.6


def test_gradient_penalty():
    model, (x, y) = make(), batch()
    parameters = weights(model)

    def penalty(parameters):
        return (by_hand.loss_gradients(parameters, x, y)[0] ** 2).sum()

    term = GradientPenalty(weight=2.0)
    expected = 2.0 * penalty(parameters)
    assert expected > 0.01
    loss, taken = one_step(term, model, x, y)
    plain = by_hand.loss(parameters, x, y)
    assert loss == pytest.approx(plain + expected, abs=1e-4)
    plain = by_hand.loss_gradients(parameters, x, y)
    for i, parameter in enumerate(parameters):
        for place in np.ndindex(parameter.shape):
            shifted = []
            for h in (1e-4, -1e-4):
                parameters[i][place] += h
                shifted.append(penalty(parameters))
                parameters[i][place] -= h
            slope = (shifted[0] - shifted[1]) / 2e-4
            wanted = plain[i][place] + 2.0 * slope
            assert taken[i][place] == pytest.approx(wanted, abs=1e-4), (i, place)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_norms_of_gradients_of_any_size(scale):
    from bert4keras3.training.adversarial import _unit_and_norm

    tensor = keras.ops.convert_to_tensor(np.array([[3.0, 0.0], [0.0, -4.0]]) * scale)
    unit, norm = _unit_and_norm(keras.ops.cast(tensor, "float32"))
    np.testing.assert_allclose(to_numpy(unit), [[0.6, 0], [0, -0.8]], rtol=1e-5)
    assert float(norm) == pytest.approx(5.0 * scale, rel=1e-5)


@pytest.mark.parametrize("term", TERMS)
def test_config_round_trip(term):
    names = list(term().get_config())
    numbers = {"num_steps": 2, "seed": 3, "from_logits": False, "variable": "*x"}
    config = {name: numbers.get(name, 0.25) for name in names}
    config |= {"use_sample_weight": True} if "use_sample_weight" in names else {}
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(term(**config))
    )
    assert type(again) is term and again.get_config() == config


@pytest.mark.parametrize(
    ("make_term", "message"),
    [
        (lambda: FGM(epsilon=-1), "`epsilon` must be at least 0"),
        (lambda: FGM(weight=-1), "`weight` must be at least 0"),
        (lambda: PGD(epsilon=-1), "`epsilon` must be at least 0"),
        (lambda: PGD(step_size=-1), "`step_size` must be at least 0"),
        (lambda: PGD(num_steps=0), "`num_steps` must be a whole number"),
        (lambda: PGD(weight=-1), "`weight` must be at least 0"),
        (lambda: VirtualAdversarial(epsilon=-1), "`epsilon` must be at least 0"),
        (lambda: VirtualAdversarial(xi=-1), "`xi` must be at least 0"),
        (lambda: VirtualAdversarial(num_steps=1.5), "`num_steps` must be a whole"),
        (lambda: VirtualAdversarial(weight=-1), "`weight` must be at least 0"),
        (lambda: GradientPenalty(weight=-1), "`weight` must be at least 0"),
    ],
)
def test_wrong_arguments(make_term, message):
    with pytest.raises(ValueError, match=message):
        make_term()
