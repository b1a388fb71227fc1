"""The FLASH layer against the formula, one key at a time, and common sense."""

from functools import partial

import attention_properties as properties
import numpy as np
import pytest
import reference_chunks
from contract import assign, randomize, to_numpy
from gradients import compiled

from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.mixed_chunk_attention import MixedChunkAttentionUnit
from bert4keras3.layers.normalization import ScaleOffset
from bert4keras3.layers.rotary_embedding import RotaryEmbedding

CAUSAL = pytest.mark.parametrize("causal", [False, True])
# 256 is more than the row, 9 is the row, 1 leaves the quadratic part one key.
CHUNKS = pytest.mark.parametrize("chunk_size", [1, 2, 4, 9, 256])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_unit(chunk_size=4, causal=False, dim=properties.D, **options):
    unit = MixedChunkAttentionUnit(16, 6, chunk_size, causal, **options)
    unit.build((None, None, dim))
    return unit, randomize(unit)


@CAUSAL
@CHUNKS
def test_against_the_formula(chunk_size, causal):
    x, real = normal(3, 9, 12), properties.REAL
    unit, weights = random_unit(chunk_size, causal)
    given = to_numpy(compiled(unit)(x, padding_mask=real))
    expected = reference_chunks.mixed_chunk(
        x.astype("float64"), weights, chunk_size, causal, real
    )
    np.testing.assert_allclose(given[real], expected[real], atol=1e-5)


@CAUSAL
def test_against_the_formula_without_bias_and_with_positions(causal):
    x, real = normal(2, 11, 12), np.ones((2, 11), bool)
    # A token in the middle may be missing too.
    real[1, 2:6] = False
    positions = np.random.default_rng(1).uniform(0, 90, (2, 11)).astype("float32")
    for rotary in (True, False):
        unit, weights = random_unit(
            causal=causal,
            use_bias=False,
            activation="gelu",
            rotary_embedding="rope" if rotary else None,
        )
        assert not [name for name in weights if name.endswith(("bias", "offset"))]
        given = to_numpy(unit(x, padding_mask=real, positions=positions))
        expected = reference_chunks.mixed_chunk(
            x.astype("float64"), weights, 4, causal, real, "gelu", positions, rotary
        )
        np.testing.assert_allclose(given[real], expected[real], atol=1e-5)


def test_one_chunk_without_the_linear_part_is_a_gated_attention_unit():
    x = normal(3, 9, 12)
    unit, weights = random_unit(9, use_bias=False)
    unit.linear_key_scale.scale.assign(np.zeros(6))
    whole = GatedAttentionUnit(16, 6, rotary_embedding="rope", use_bias=False)
    whole.build(x.shape)
    for part in (
        "gate_dense",
        "value_dense",
        "shared_dense",
        "query_scale",
        "key_scale",
        "output_dense",
    ):
        getattr(whole, part).set_weights(getattr(unit, part).get_weights())
    arguments = {"padding_mask": properties.REAL}
    np.testing.assert_allclose(
        to_numpy(unit(x, **arguments)), to_numpy(whole(x, **arguments)), atol=1e-5
    )


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
    # Chunks of 12 hold the whole short rows and cut the long ones.
    for chunk_size in (4, 12):
        check(random_unit(chunk_size, causal)[0])


def test_a_row_of_padding_gives_the_bias():
    unit, _ = random_unit(use_bias=False)
    assert np.all(properties.check_empty_rows(unit) == 0)


@pytest.mark.parametrize("chunk_size", [1, 4, 256])
def test_a_causal_row_never_sees_the_future(chunk_size):
    unit, _ = random_unit(chunk_size, causal=True)
    properties.check_causal(lambda x, attention_mask: unit(x))


def test_a_row_sees_other_chunks():
    x = normal(1, 9, 12)
    other = x.copy()
    other[:, 0] += 1
    for causal in (False, True):
        unit, _ = random_unit(4, causal)
        changed = np.abs(to_numpy(unit(other)) - to_numpy(unit(x)))
        assert changed[0, -1].max() > 1e-3


def test_low_precision_follows_float32_far_out():
    # The squares of the logits have twice their relative error.
    properties.check_far_positions(
        partial(MixedChunkAttentionUnit, 16, 6, 4),
        lambda layer, x, positions: layer(x, positions=positions),
        power=2,
    )


@CAUSAL
def test_bfloat16_sums_of_a_long_row_stay_near_float32(causal):
    """Counted in bfloat16, 1024 equal keys would sum to 256."""
    x = np.abs(normal(1, 1024, 12)) + 1
    exact, weights = random_unit(32, causal)
    rounded, _ = random_unit(32, causal, dtype="mixed_bfloat16")
    assign(rounded, weights)
    expected = to_numpy(exact(x))
    error = np.abs(to_numpy(rounded(x)) - expected).max()
    assert error <= 2**-4 * np.abs(expected).max()


def test_dropout():
    properties.check_dropout(partial(MixedChunkAttentionUnit, 16, 6, 4))


def test_the_linear_products_start_as_large_as_means():
    unit = MixedChunkAttentionUnit(16, 4)
    unit.build((None, None, 8))
    np.testing.assert_allclose(to_numpy(unit.linear_key_scale.scale), 0.5)
    np.testing.assert_allclose(to_numpy(unit.key_scale.scale), 1.0)
    config = unit.linear_key_scale.get_config()
    again = ScaleOffset.from_config(config)
    again.build((None, 4))
    np.testing.assert_allclose(to_numpy(again.scale), 0.5)


class Clipped(RotaryEmbedding):
    def scores(self, query, key, query_positions=None, key_positions=None):
        return super().scores(query, key)


def test_refusals():
    with pytest.raises(ValueError, match="`chunk_size` must be at least 1"):
        MixedChunkAttentionUnit(16, chunk_size=0)
    with pytest.raises(ValueError, match="Clipped computes the scores"):
        MixedChunkAttentionUnit(16, rotary_embedding=Clipped())
    with pytest.raises(ValueError, match="even, positive"):
        MixedChunkAttentionUnit(16, key_dim=5)(normal(1, 3, 8))
    unit, _ = random_unit()
    with pytest.raises(ValueError, match="`padding_mask` must have shape"):
        unit(normal(2, 5, 12), padding_mask=np.ones((2, 1, 5), bool))
