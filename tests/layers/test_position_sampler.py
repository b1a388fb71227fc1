"""Positions that are drawn while training."""

import keras
import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.layers import position_sampler
from bert4keras3.layers.position_embedding import SinusoidalPositionEmbedding
from bert4keras3.layers.position_sampler import (
    POSITION_SAMPLERS,
    EqualMeanBetaPositions,
    EqualMeanExponentialPositions,
    PositionSampler,
    RandomPositions,
)

LENGTHS = np.array([[12], [7], [1], [0]])
REAL = np.arange(12) < LENGTHS
EQUAL_MEAN = {
    "exponential": lambda **options: EqualMeanExponentialPositions(**options),
    "beta": lambda **options: EqualMeanBetaPositions(80, **options),
}
ALL = {"random": lambda **options: RandomPositions(40, **options), **EQUAL_MEAN}


def draw(sampler, mask=REAL, training=True):
    return to_numpy(sampler(mask, training=training))


def rows(positions):
    """The positions of the tokens, text by text."""
    return [row[real] for row, real in zip(positions, REAL, strict=True)]


# --- random positions -----------------------------------------------------------


def test_random_positions_are_sorted_distinct_and_in_range():
    sampler = RandomPositions(max_position=13, seed=0)
    for _ in range(20):
        positions = draw(sampler)
        assert positions.min() >= 0 and positions.max() < 14
        for row in rows(positions):
            assert np.all(np.diff(row) >= 1), row
            assert np.all(row == np.round(row)) and np.all(row < 13)


def test_every_position_is_drawn_as_often_as_any_other():
    mask = np.ones((4000, 6), bool)
    mask[:, 4:] = False
    positions = draw(RandomPositions(max_position=10, seed=0), mask)[:, :4]
    counts = np.bincount(positions.astype(int).ravel(), minlength=10)
    # 1600 expected of each, with a deviation of 31.
    assert len(counts) == 10 and np.all(np.abs(counts - 1600) < 160)


def test_all_positions_can_be_taken():
    positions = draw(RandomPositions(max_position=12), np.ones((2, 12), bool))
    np.testing.assert_array_equal(positions, np.tile(np.arange(12.0), (2, 1)))


def test_even_prediction_spans_the_range_whatever_the_padding():
    sampler = RandomPositions(max_position=23)
    positions = draw(sampler, training=False)
    for row, (length,) in zip(rows(positions), LENGTHS, strict=True):
        np.testing.assert_allclose(row, np.linspace(0, 22, length), rtol=1e-6)
    left = draw(sampler, REAL[:, ::-1], training=False)
    np.testing.assert_array_equal(left[1, 5:], positions[1, :7])


def test_sampled_prediction_draws():
    sampler = RandomPositions(max_position=2048, prediction="sampled")
    one, other = draw(sampler, training=False), draw(sampler, training=False)
    assert not np.array_equal(one, other)
    for row in rows(one):
        assert np.all(np.diff(row) >= 1)


# --- equal mean -----------------------------------------------------------------


@pytest.mark.parametrize("kind", EQUAL_MEAN)
def test_the_last_position_has_the_mean_of_the_length(kind):
    mask = np.ones((10_000, 12), bool)
    mask[:, 10:] = False
    positions = draw(EQUAL_MEAN[kind](seed=0), mask)[:, :10]
    last = positions[:, -1:]
    assert last.mean() == pytest.approx(10, rel=0.02)
    np.testing.assert_allclose(
        positions, last * np.linspace(0, 1, 10), rtol=1e-5, atol=1e-5
    )
    # Exponential: as much as the mean. Beta(1, 7) of 80: 80 * sqrt(7 / 64 / 9).
    deviation = {"exponential": 10, "beta": 8.819}[kind]
    assert last.std() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize("alpha", [0.3, 5.0])
def test_the_beta_distribution(alpha):
    sampler = EqualMeanBetaPositions(80, alpha=alpha, seed=1)
    last = draw(sampler, np.ones((20_000, 10), bool))[:, -1] / 80
    beta = 7 * alpha
    variance = alpha * beta / (alpha + beta) ** 2 / (alpha + beta + 1)
    assert np.all((last >= 0) & (last <= 1))
    assert last.mean() == pytest.approx(1 / 8, rel=0.04)
    assert last.std() == pytest.approx(variance**0.5, rel=0.04)


@pytest.mark.parametrize("kind", EQUAL_MEAN)
def test_equal_mean_prediction_is_plain_integers(kind):
    positions = draw(EQUAL_MEAN[kind](), training=False)
    np.testing.assert_array_equal(positions, np.tile(np.arange(12.0), (4, 1)))


# --- all ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_draws_are_new_at_every_call_and_only_in_training(kind):
    sampler = ALL[kind]()
    one, other = draw(sampler), draw(sampler)
    assert one.dtype == np.float32 and np.all(np.isfinite(one))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(
        draw(sampler, training=False), draw(sampler, training=None)
    )
    same = [draw(ALL[kind](seed=3)) for _ in range(2)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("kind", ALL)
def test_one_draw_for_the_batch(kind):
    mask = np.ones((3, 6), bool)
    shared = draw(ALL[kind](per_sequence=False), mask)
    np.testing.assert_array_equal(shared, np.tile(shared[:1], (3, 1)))
    own = draw(ALL[kind](), mask)
    assert not np.array_equal(own[0], own[1])


def tiny_model(sampler):
    x = keras.Input((12, 8))
    mask = keras.Input((12,), dtype="bool")
    y = SinusoidalPositionEmbedding()(x, sampler(mask))
    return keras.Model([x, mask], keras.layers.Dense(1)(y))


@pytest.mark.parametrize("kind", ALL)
def test_a_compiled_training_step(kind):
    model = tiny_model(ALL[kind](seed=5))
    compiled = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=compiled)
    x = np.random.default_rng(0).normal(size=(4, 12, 8)).astype("float32")
    batch = ([x, REAL], np.ones((4, 12, 1), "float32"))
    losses = [float(model.train_on_batch(*batch)) for _ in range(3)]
    # With a learning rate of 0 only the positions differ between the steps.
    assert np.all(np.isfinite(losses)) and len(set(losses)) == 3
    tested = [float(model.test_on_batch(*batch)) for _ in range(2)]
    assert tested[0] == tested[1]


def test_a_saved_model_draws(tmp_path):
    model = tiny_model(RandomPositions(40, seed=5))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(4, 12, 8)).astype("float32")
    for training in (False, True):
        one, other = (
            to_numpy(each([x, REAL], training=training)) for each in (model, again)
        )
        np.testing.assert_array_equal(one, other)


def test_names_instances_and_configs():
    assert len(POSITION_SAMPLERS) >= 3
    for name, kind in POSITION_SAMPLERS.items():
        sampler = position_sampler.get(name)
        assert type(sampler) is kind and position_sampler.get(sampler) is sampler
        again = position_sampler.get(position_sampler.serialize(sampler))
        assert again.get_config() == sampler.get_config()
    assert position_sampler.get(None) is None
    with pytest.raises(ValueError, match="position sampler.*'random_positions'"):
        position_sampler.get("random_position")
    with pytest.raises(NotImplementedError):
        PositionSampler()(REAL, training=True)


def test_what_cannot_be_drawn_is_refused():
    short = RandomPositions(max_position=11)
    for inputs in (REAL, keras.Input((12,), dtype="bool")):
        with pytest.raises(ValueError, match="12 distinct positions .* from 11"):
            short(inputs)
    for wrong in (0, -2, 1.5):
        with pytest.raises(ValueError, match=f"`max_position`.*Received {wrong}"):
            RandomPositions(max_position=wrong)
    with pytest.raises(ValueError, match="Unknown prediction.*'even'"):
        RandomPositions(prediction="evenly")
    with pytest.raises(ValueError, match="`alpha` must be above 0. Received 0"):
        EqualMeanBetaPositions(alpha=0)
    with pytest.raises(ValueError, match="`prediction_length` must be above 0"):
        EqualMeanBetaPositions(prediction_length=-4)
    beta = EqualMeanBetaPositions(prediction_length=12)
    with pytest.raises(ValueError, match="12 places .* within 12"):
        beta(REAL, training=True)
    beta(REAL)
