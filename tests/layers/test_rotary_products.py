"""Rotary schemes of several products, against their formulas."""

from functools import partial

import numpy as np
import position_properties as properties
import pytest
import reference_positions as reference
from contract import to_numpy

from bert4keras3.layers import rotary_embedding
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.rotary_products import (
    XPOS,
    InvLeakyReRoPE,
    LeakyReRoPE,
    ReRoPE,
    SelfExtend,
)

normal = properties.normal
VARIANTS = {
    "xpos": (XPOS(scale_base=64), partial(reference.xpos, scale_base=64)),
    "rerope": (ReRoPE(8), partial(reference.rerope, window=8)),
    "leaky": (LeakyReRoPE(8, 4.0), partial(reference.leaky_rerope, window=8, k=4.0)),
    "inv_leaky": (
        InvLeakyReRoPE(8, 3.0),
        partial(reference.inv_leaky_rerope, window=8, k=3.0),
    ),
    "self_extend": (
        SelfExtend(9, 4),
        partial(reference.self_extend, window=9, group=4),
    ),
}
WINDOWED = [ReRoPE, LeakyReRoPE, InvLeakyReRoPE, SelfExtend]
# Distances on both sides of the window, and on its edge.
POSITIONS = np.array([0, 1, 8, 9, 17, 30, 64])


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def test_scores_against_the_formula(variant):
    rotary, logit = variant
    query, key = normal(2, 3, 7, 8), normal(2, 3, 7, 8, seed=1)
    given = to_numpy(rotary.scores(query, key, POSITIONS, POSITIONS))
    expected = reference.scores(logit, query, key, POSITIONS, POSITIONS)
    # An angle of 200 is off by 200 * 2**-24, and so is each of 8 products.
    np.testing.assert_allclose(given, expected, atol=8e-5)


def test_in_both_attention_layers(variant):
    rotary, logit = variant
    places = POSITIONS // 2

    def logits(query, key, w, scale):
        return scale * reference.scores(logit, query, key, places, places)

    properties.check_in_attention(logits, places, rotary_embedding=rotary)


def test_far_positions_in_bfloat16(variant):
    properties.check_far_positions(variant[0])


def test_shift(variant):
    properties.check_shift(variant[0], 1000)


def test_self_extend_moves_with_whole_groups_only():
    x = normal(1, 1, 40, 8)
    rotary, places = SelfExtend(8, 4), np.arange(40)
    expected = to_numpy(rotary.scores(x, x))
    given = to_numpy(rotary.scores(x, x, places + 1, places + 1))
    assert np.abs(given - expected).max() > 1e-2


def test_lengths(variant):
    properties.check_lengths(variant[0])


@pytest.mark.parametrize("make", WINDOWED)
def test_inside_the_window_it_is_rope(make):
    x = normal(2, 3, 9, 8)
    expected = to_numpy(RotaryEmbedding().scores(x, x))
    np.testing.assert_array_equal(to_numpy(make(9).scores(x, x)), expected)
    outside = np.abs(to_numpy(make(2).scores(x, x)) - expected) > 1e-3
    assert outside.any() and not outside[..., *np.indices((9, 9))[:, :2, :2]].any()


@pytest.mark.parametrize(
    "same", [LeakyReRoPE(3, 1), InvLeakyReRoPE(3, 1), SelfExtend(3, 1)]
)
def test_a_factor_of_one_is_rope(same):
    x = normal(2, 3, 20, 8)
    expected = to_numpy(RotaryEmbedding().scores(x, x))
    np.testing.assert_allclose(to_numpy(same.scores(x, x)), expected, atol=1e-5)


def test_rerope_is_constant_beyond_the_window():
    x = np.tile(normal(1, 1, 1, 8), (1, 1, 30, 1))
    scores = to_numpy(ReRoPE(5).scores(x, x))[0, 0]
    np.testing.assert_allclose(scores[29, :24], scores[29, 24], atol=1e-5)
    np.testing.assert_allclose(scores[0, 6:], scores[0, 5], atol=1e-5)
    # For the same vectors the two sides mirror each other.
    np.testing.assert_allclose(scores, scores.T, atol=1e-5)


@pytest.mark.parametrize("make", WINDOWED)
def test_the_causal_form_is_the_same_for_keys_before_the_query(make):
    x = normal(1, 2, 20, 8)
    both = to_numpy(make(3).scores(x, x))
    causal = to_numpy(make(3, bidirectional=False).scores(x, x))
    seen = np.tril(np.ones((20, 20), bool))
    np.testing.assert_array_equal(causal[..., seen], both[..., seen])
    assert np.abs((causal - both)[..., ~seen]).max() > 1e-2
    rope = to_numpy(RotaryEmbedding().scores(x, x))
    np.testing.assert_array_equal(causal[..., ~seen], rope[..., ~seen])


def test_windows_compare_positions_not_places():
    x = normal(1, 1, 6, 8)
    positions = np.arange(6) * 100
    far = to_numpy(ReRoPE(50).scores(x, x, positions, positions))
    spread = to_numpy(ReRoPE(1).scores(x, x, np.arange(6) * 50, np.arange(6) * 50))
    assert np.abs(far - spread).max() > 1e-2
    expected = reference.scores(
        partial(reference.rerope, window=50), x, x, positions, positions
    )
    np.testing.assert_allclose(far, expected, atol=5e-5)


def test_xpos_decays_without_overflow_in_every_precision():
    assert XPOS.needs_causal_mask and not RotaryEmbedding.needs_causal_mask
    ones = np.ones((1, 1, 16384, 8), "float32")
    last = np.array([16383.0], "float32")
    row = to_numpy(XPOS().scores(ones[..., :1, :], ones, last))[0, 0, 0]
    places = np.array([0, 1000, 8000, 16000, 16383])
    expected = [
        reference.xpos(np.ones(8), np.ones(8), 16383, place) for place in places
    ]
    np.testing.assert_allclose(row[places], expected, atol=2e-2)
    half = XPOS().scores(
        ones[..., :1, :].astype("float16"), ones.astype("float16"), last
    )
    np.testing.assert_allclose(to_numpy(half)[0, 0, 0], row, atol=1e-5)


def test_found_by_name_with_a_config_that_survives():
    for rotary, _ in VARIANTS.values():
        again = rotary_embedding.get(rotary_embedding.serialize(rotary))
        assert again.get_config() == rotary.get_config()
    for name in ("rerope", "leaky_rerope", "inv_leaky_rerope", "self_extend"):
        assert rotary_embedding.get(name).window == 128


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: XPOS(gamma=0), "`gamma` must be above 0.*0"),
        (lambda: XPOS(scale_base=0), "`scale_base` must be at least 1.*0"),
        (lambda: ReRoPE(0), "`window` must be at least 1.*0"),
        (lambda: LeakyReRoPE(factor=0.5), "`factor` must be at least 1.*0.5"),
        (lambda: InvLeakyReRoPE(factor=0.5), "`factor` must be at least 1.*0.5"),
        (lambda: SelfExtend(group_size=0), "`group_size` must be at least 1.*0"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()
