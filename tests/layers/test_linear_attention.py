"""Linear attention against the formula, one key at a time, and common sense."""

import attention_properties as properties
import numpy as np
import pytest
import reference_chunks
from contract import assign, randomize, to_numpy
from gradients import compiled

from bert4keras3.layers.linear_attention import FEATURE_MAPS, LinearAttention
from bert4keras3.layers.rotary_embedding import RotaryEmbedding

CAUSAL = pytest.mark.parametrize("causal", [False, True])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


class Clipped(RotaryEmbedding):
    def scores(self, query, key, query_positions=None, key_positions=None):
        return super().scores(query, key)


def random_layer(causal=False, chunk_size=4, **options):
    layer = LinearAttention(2, 6, causal=causal, chunk_size=chunk_size, **options)
    layer.build((None, None, properties.D))
    return layer, randomize(layer)


@CAUSAL
@pytest.mark.parametrize("feature_map", sorted(FEATURE_MAPS))
def test_against_the_formula(feature_map, causal):
    x, real = normal(3, 9, 12), properties.REAL
    layer, weights = random_layer(causal, feature_map=feature_map)
    given = to_numpy(compiled(layer)(x, padding_mask=real))
    expected = reference_chunks.linear_attention(
        x.astype("float64"), weights, 2, causal, real, feature_map
    )
    np.testing.assert_allclose(given[real], expected[real], atol=1e-5)


@CAUSAL
def test_against_the_formula_with_positions_or_without(causal):
    x, real = normal(2, 11, 12), np.ones((2, 11), bool)
    real[1, 2:6] = False
    positions = np.random.default_rng(1).uniform(0, 90, (2, 11)).astype("float32")
    for rotary in (True, False):
        layer, weights = random_layer(
            causal, use_bias=False, rotary_embedding="rope" if rotary else None
        )
        given = to_numpy(layer(x, padding_mask=real, positions=positions))
        expected = reference_chunks.linear_attention(
            x.astype("float64"),
            weights,
            2,
            causal,
            real,
            positions=positions,
            rotary=rotary,
        )
        np.testing.assert_allclose(given[real], expected[real], atol=1e-5)


def test_the_size_of_chunks_changes_no_number():
    x = normal(2, 9, 12)
    expected = None
    for chunk_size in (1, 4, 9, 64):
        layer, _ = random_layer(True, chunk_size)
        given = to_numpy(layer(x))
        if expected is not None:
            np.testing.assert_allclose(given, expected, atol=1e-5)
        expected = given


@CAUSAL
@pytest.mark.parametrize(
    "check",
    [
        properties.check_padding_content,
        properties.check_padded_length,
        properties.check_positions,
        properties.check_empty_rows,
    ],
    ids=lambda check: check.__name__,
)
def test_properties(check, causal):
    check(random_layer(causal)[0])


def test_a_row_of_padding_gives_zeros():
    layer, _ = random_layer(use_bias=False)
    assert np.all(properties.check_empty_rows(layer) == 0)


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_a_causal_row_never_sees_the_future(chunk_size):
    layer, _ = random_layer(True, chunk_size)
    properties.check_causal(lambda x, attention_mask: layer(x))


@CAUSAL
def test_bfloat16_sums_of_a_long_row_stay_near_float32(causal):
    x = np.abs(normal(1, 1024, 12)) + 1
    exact, weights = random_layer(causal, 32)
    rounded, _ = random_layer(causal, 32, dtype="mixed_bfloat16")
    assign(rounded, weights)
    expected = to_numpy(exact(x))
    error = np.abs(to_numpy(rounded(x)) - expected).max()
    assert error <= 2**-5 * np.abs(expected).max()


def test_refusals():
    with pytest.raises(ValueError, match="Did you mean 'elu_plus_one'"):
        LinearAttention(2, feature_map="elu_plus_1")
    with pytest.raises(ValueError, match="`chunk_size` must be at least 1"):
        LinearAttention(2, chunk_size=0)
    with pytest.raises(ValueError, match="Clipped computes the scores"):
        LinearAttention(2, rotary_embedding=Clipped())
    with pytest.raises(ValueError, match="cannot be shared by 3 heads"):
        LinearAttention(3)(normal(1, 3, 8))
    with pytest.raises(ValueError, match="even, positive"):
        LinearAttention(2, 5)(normal(1, 3, 8))
    with pytest.raises(ValueError, match="`padding_mask` must have shape"):
        random_layer()[0](normal(2, 5, 12), padding_mask=np.ones((2, 1, 5), bool))
