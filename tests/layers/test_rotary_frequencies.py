"""RoPE with other frequencies, against their formulas."""

from functools import partial

import numpy as np
import position_properties as properties
import pytest
import reference_positions as reference
from contract import to_numpy

from bert4keras3.layers import rotary_embedding
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.rotary_frequencies import (
    AdjustedBaseFrequency,
    DynamicNTK,
    LinearInterpolation,
    NTKFixed,
    NTKMixed,
    NTKRoPE,
    YaRN,
)

normal = properties.normal
# A training length that the variants leave: some pairs of 8 features are blended.
VARIANTS = {
    "pi": (LinearInterpolation(), reference.linear_interpolation),
    "ntk": (NTKRoPE(), reference.ntk_old),
    "ntk_exact": (
        NTKRoPE(5.0, use_exact_exponent=True),
        partial(reference.ntk_old, k=5.0, exact=True),
    ),
    "fixed": (NTKFixed(3.0), partial(reference.ntk_fixed, k=3.0)),
    "mixed": (NTKMixed(), reference.ntk_mixed),
    "mixed_llama": (
        NTKMixed(12.0, exponent=0.75),
        partial(reference.ntk_mixed, k=12.0, b=0.75),
    ),
    "yarn": (YaRN(), reference.yarn),
    "yarn_blended": (
        YaRN(4.0, train_length=2000, fast_turns=64.0, slow_turns=2.0),
        partial(reference.yarn, s=4.0, train_length=2000, fast=64.0, slow=2.0),
    ),
    "dynamic": (
        DynamicNTK(train_length=64),
        partial(reference.dynamic_ntk, train_length=64, largest=180),
    ),
    "abf": (AdjustedBaseFrequency(), reference.abf),
}
POSITIONS = np.array([0, 1, 2, 30, 60, 61, 180])


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def test_scores_against_the_formula(variant):
    rotary, logit = variant
    query, key = normal(2, 3, 7, 8), normal(2, 3, 7, 8, seed=1)
    given = to_numpy(rotary.scores(query, key, POSITIONS, POSITIONS))
    expected = reference.scores(logit, query, key, POSITIONS, POSITIONS)
    # An angle of 180 is off by 180 * 2**-24.
    np.testing.assert_allclose(given, expected, atol=6e-5)


def test_in_both_attention_layers(variant):
    rotary, logit = variant
    places = POSITIONS // 2
    if isinstance(rotary, DynamicNTK):
        logit = partial(logit, largest=90)

    def logits(query, key, w, scale):
        return scale * reference.scores(logit, query, key, places, places)

    properties.check_in_attention(logits, places, rotary_embedding=rotary)


def test_far_positions_in_bfloat16(variant):
    properties.check_far_positions(variant[0])


def test_shift(variant):
    # The scale of DynamicNTK is a matter of the length: not within that of training.
    rotary = variant[0]
    dynamic = isinstance(rotary, DynamicNTK)
    properties.check_shift(DynamicNTK(2048) if dynamic else rotary, 1000)


def test_lengths(variant):
    properties.check_lengths(variant[0])


@pytest.mark.parametrize(
    "same",
    [
        LinearInterpolation(1),
        NTKRoPE(1),
        NTKRoPE(1, use_exact_exponent=True),
        NTKFixed(1),
        NTKMixed(1),
        YaRN(1),
        DynamicNTK(8),
        AdjustedBaseFrequency(10000.0),
    ],
)
def test_without_a_scale_it_is_rope(same):
    x = normal(2, 3, 8, 8)
    expected = to_numpy(RotaryEmbedding().scores(x, x))
    np.testing.assert_allclose(to_numpy(same.scores(x, x)), expected, atol=1e-5)


def test_mixed_ends_at_fixed_and_at_interpolation():
    for exponent, other in ((0, LinearInterpolation(6.0)), (1, NTKFixed(6.0))):
        given = NTKMixed(6.0, exponent=exponent).frequencies(16)
        np.testing.assert_allclose(given, other.frequencies(16), rtol=1e-6)


def test_the_slowest_pair_is_interpolated_exactly():
    plain = RotaryEmbedding().frequencies(16)
    for rotary in (NTKRoPE(6.0, True), NTKFixed(6.0), NTKMixed(6.0), YaRN(6.0)):
        assert rotary.frequencies(16)[-1] == pytest.approx(plain[-1] / 6, rel=1e-6)


def test_dynamic_scale_is_one_per_row():
    rotary = DynamicNTK(4)
    x = normal(2, 3, 6, 8)
    positions = np.stack([np.arange(6), np.arange(6) + 30])
    given = to_numpy(rotary.scores(x, x, positions, positions))
    for b, row in enumerate(positions):
        alone = rotary.scores(x[b : b + 1], x[b : b + 1], row, row)
        np.testing.assert_allclose(given[b], to_numpy(alone)[0], atol=1e-5)


def test_found_by_name_with_a_config_that_survives():
    for rotary, _ in VARIANTS.values():
        again = rotary_embedding.get(rotary_embedding.serialize(rotary))
        assert again.get_config() == rotary.get_config()
    for name in ("linear_interpolation", "ntk_old", "ntk_fixed", "ntk_mixed", "yarn"):
        assert rotary_embedding.get(name).scaling_factor == 8.0
    assert rotary_embedding.get("abf").max_wavelength == 500000.0
    assert rotary_embedding.get("dynamic_ntk").train_length == 512


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LinearInterpolation(0.5), "`scaling_factor` must be at least 1.*0.5"),
        (lambda: NTKMixed(exponent=-1), "`exponent` must be at least 0.*-1"),
        (lambda: YaRN(train_length=0), "`train_length` must be at least 1.*0"),
        (lambda: YaRN(slow_turns=-1), "`slow_turns` must be at least 0.*-1"),
        (lambda: YaRN(fast_turns=1.0), "`fast_turns` must be above `slow_turns`"),
        (lambda: DynamicNTK(0), "`train_length` must be at least 1.*0"),
        (lambda: NTKRoPE(2, True).frequencies(2), "`dim` must be at least 4.*2"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()
