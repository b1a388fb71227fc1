"""Two-dimensional and trained rotations, against their formulas."""

from functools import partial

import keras
import numpy as np
import position_properties as properties
import pytest
import reference_positions as reference
from contract import randomize, to_numpy
from gradients import gradient

from bert4keras3.layers import rotary_embedding
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.global_pointer import GlobalPointer
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.rotary_general import (
    ExponentialRotation,
    OrthogonalRotation,
    RotaryEmbedding2D,
)

normal = properties.normal
TRAINED = {
    "exponential": (ExponentialRotation, reference.exponential, "generator"),
    "orthogonal": (
        partial(OrthogonalRotation, num_reflections=3),
        reference.orthogonal,
        "mirrors",
    ),
}
POSITIONS = np.array([-3, 0, 1, 2, 7, 16, 31])


@pytest.fixture(params=TRAINED)
def trained(request):
    return TRAINED[request.param]


def built(make, seed=0):
    rotary = make()
    assert not rotary.built
    rotary.build((1, 1, None, 8))
    (weight,) = randomize(rotary, seed).values()
    return rotary, weight


def test_trained_scores_against_the_formula(trained):
    make, logit, name = trained
    rotary, weight = built(make)
    query, key = normal(2, 3, 7, 8), normal(2, 3, 7, 8, seed=1)
    given = to_numpy(rotary.scores(query, key, POSITIONS, POSITIONS))
    logit = partial(logit, **{name: weight})
    expected = reference.scores(logit, query, key, POSITIONS, POSITIONS)
    # A step is off by about 2**-22, a distance of 34 by as many times more.
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_trained_in_both_attention_layers(trained):
    make, logit, name = trained
    places = np.arange(properties.T)

    def logits(query, key, w, scale):
        (weight,) = (w[path] for path in w if path.endswith(name))
        option = {name: weight}
        return scale * reference.scores(logit, query, key, places, places, **option)

    properties.check_in_attention(logits, atol=3e-5, rotary_embedding=make())


def test_trained_shift_far_positions_and_lengths(trained):
    rotary, _ = built(trained[0])
    properties.check_shift(rotary, 1000, atol=3e-3)
    properties.check_far_positions(rotary)
    properties.check_lengths(rotary)


def test_the_exponential_takes_fractions_of_a_position():
    rotary, weight = built(ExponentialRotation)
    query, key = normal(1, 1, 3, 8), normal(1, 1, 3, 8, seed=1)
    positions = np.array([-0.5, 2.25, 3 + 1 / 256])
    logit = partial(reference.exponential, generator=weight)
    expected = reference.scores(logit, query, key, positions, positions)
    given = to_numpy(rotary.scores(query, key, positions, positions))
    np.testing.assert_allclose(given, expected, atol=2e-5)


@pytest.mark.parametrize("interleaved", [True, False])
def test_the_exponential_starts_as_rope(interleaved):
    rotary = ExponentialRotation(interleaved=interleaved)
    rotary.build((1, 1, 40, 8))
    x = normal(1, 2, 40, 8)
    expected = to_numpy(RotaryEmbedding(interleaved=interleaved).rotate(x))
    np.testing.assert_allclose(to_numpy(rotary.rotate(x)), expected, atol=5e-5)


def test_trained_rotations_keep_lengths_and_have_slopes(trained):
    rotary, _ = built(trained[0])
    x = normal(1, 1, 3, 8)
    at = np.array([5.0, 4095.0, 16383.0])
    turned = to_numpy(rotary.rotate(x, at))
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
    )
    (slope,) = gradient(lambda x: rotary.scores(x, keras.ops.flip(x, axis=-2)), x)
    assert np.all(np.isfinite(slope)) and np.abs(slope).max() > 0


def test_the_layer_around_owns_the_weight(trained):
    make, _, name = trained
    x = normal(1, 2, 5, 8)
    attention = DotProductAttention(rotary_embedding=make())
    attention(x, x, x)
    assert [w.name for w in attention.weights] == [name]
    pointer = GlobalPointer(2, 6, rotary_embedding=make())
    pointer(normal(1, 5, 4))
    assert name in [w.name for w in pointer.weights]


def test_two_dimensions_against_the_formula():
    rotary = RotaryEmbedding2D()
    positions = np.random.default_rng(0).integers(0, 40, (7, 2))
    query, key = normal(2, 3, 7, 8), normal(2, 3, 7, 8, seed=1)
    expected = reference.scores(reference.rope_2d, query, key, positions, positions)
    given = to_numpy(rotary.scores(query, key, positions, positions))
    np.testing.assert_allclose(given, expected, atol=2e-5)
    shift = np.array([[[0, 0]], [[100, 37]]])
    moved = to_numpy(rotary.scores(query, key, positions + shift, positions + shift))
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    positions = (positions // 4).astype("int32")

    def logits(query, key, w, scale):
        return scale * reference.scores(
            reference.rope_2d, query, key, positions, positions
        )

    properties.check_in_attention(logits, positions, rotary_embedding=rotary)


def test_a_width_gives_default_positions():
    x = normal(2, 3, 7, 8)
    positions = np.array([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 2]])
    given = to_numpy(RotaryEmbedding2D(width=3).rotate(x))
    expected = to_numpy(RotaryEmbedding2D().rotate(x, positions))
    np.testing.assert_array_equal(given, expected)
    assert RotaryEmbedding2D(width=3).get_config()["width"] == 3


def test_two_dimensions_in_bfloat16_far_away():
    x = np.tile(normal(1, 1, 1, 8), (1, 1, 16, 1))
    positions = np.stack([np.arange(4080, 4096), np.arange(4095, 4079, -1)], axis=-1)
    expected = to_numpy(RotaryEmbedding2D(dtype="float32")(x, positions))
    given = to_numpy(RotaryEmbedding2D(dtype="bfloat16")(x, positions))
    assert np.abs(given - expected).max() <= 2**-7 * np.abs(expected).max()


def test_names():
    for name in TRAINED:
        assert not rotary_embedding.get(name).built


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RotaryEmbedding2D(width=0), "`width` must be at least 1.*0"),
        (lambda: RotaryEmbedding2D().frequencies(6), "dim=6.*divisible by 4"),
        (lambda: RotaryEmbedding2D()(normal(1, 4, 8)), "cannot guess"),
        (
            lambda: RotaryEmbedding2D()(normal(1, 4, 8), np.arange(4)),
            r"shape \(L, 2\).*Received shape \(4,\)",
        ),
        (lambda: OrthogonalRotation(0), "`num_reflections` must be at least 1.*0"),
        (lambda: ExponentialRotation().build((1, 1, 3, 5)), "even, positive.*dim=5"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()
