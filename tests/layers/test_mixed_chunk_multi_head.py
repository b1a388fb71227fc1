"""The attention of MC-TFM against the formula, one key at a time, and properties."""

from functools import partial

import attention_properties as properties
import numpy as np
import pytest
import reference_chunks
from contract import assign, named_weights, randomize, to_numpy
from gradients import compiled, gradient

from bert4keras3.layers.mixed_chunk_multi_head import MixedChunkMultiHeadAttention
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.rotary_products import ReRoPE

CAUSAL = pytest.mark.parametrize("causal", [False, True])
NORMALIZER = pytest.mark.parametrize("normalizer", ["squared_relu", "softmax"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_layer(chunk_size=4, causal=False, num_heads=2, **options):
    options = {"chunk_size": chunk_size, "causal": causal, **options}
    layer = MixedChunkMultiHeadAttention(num_heads, **options)
    layer.build((None, None, properties.D))
    return layer, randomize(layer)


@CAUSAL
@NORMALIZER
@pytest.mark.parametrize("chunk_size", [1, 4, 256])
def test_against_the_formula(chunk_size, causal, normalizer):
    x, real = normal(3, 9, 12), properties.REAL
    layer, weights = random_layer(chunk_size, causal, normalizer=normalizer)
    given = to_numpy(compiled(layer)(x, padding_mask=real))
    expected = reference_chunks.mixed_chunk_multi_head(
        x.astype("float64"), weights, 2, chunk_size, causal, real, normalizer
    )
    np.testing.assert_allclose(given[real], expected[real], atol=1e-5)


@CAUSAL
@pytest.mark.parametrize("rotary", [True, False])
def test_against_the_formula_with_positions_and_gaps(causal, rotary):
    x, real = normal(2, 11, 12), np.ones((2, 11), bool)
    # A token in the middle may be missing too, and a whole chunk with it.
    real[1, 2:9] = False
    positions = np.random.default_rng(1).uniform(0, 90, (2, 11)).astype("float32")
    layer, weights = random_layer(
        causal=causal,
        head_dim=4,
        num_heads=3,
        use_bias=False,
        rotary_embedding="rope" if rotary else None,
    )
    assert not [name for name in weights if name.endswith(("bias", "offset"))]
    given = to_numpy(layer(x, padding_mask=real, positions=positions))
    expected = reference_chunks.mixed_chunk_multi_head(
        x.astype("float64"),
        weights,
        3,
        4,
        causal,
        real,
        "squared_relu",
        positions,
        rotary,
    )
    np.testing.assert_allclose(given[real], expected[real], atol=1e-5)


def test_one_chunk_without_the_linear_part_is_multi_head_attention():
    x = normal(3, 9, 12)
    layer, weights = random_layer(9, normalizer="softmax", use_bias=False)
    layer.linear_key_scale.scale.assign(np.zeros(12))
    whole = MultiHeadAttention(2, 6, rotary_embedding="rope", use_bias=False)
    whole.build(x.shape)
    assign(whole, {k: v for k, v in weights.items() if "scale" not in k})
    arguments = {"padding_mask": properties.REAL}
    np.testing.assert_allclose(
        to_numpy(layer(x, **arguments)), to_numpy(whole(x, **arguments)), atol=1e-5
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
        check(random_layer(chunk_size, causal)[0])


def test_a_row_of_padding_gives_the_bias():
    layer, _ = random_layer(use_bias=False, normalizer="softmax")
    assert np.all(properties.check_empty_rows(layer) == 0)


@NORMALIZER
@pytest.mark.parametrize("chunk_size", [1, 4, 256])
def test_a_causal_row_never_sees_the_future(chunk_size, normalizer):
    layer, _ = random_layer(chunk_size, causal=True, normalizer=normalizer)
    properties.check_causal(lambda x, attention_mask: layer(x))


@CAUSAL
def test_a_row_sees_other_chunks_and_every_input_has_a_gradient(causal):
    layer, _ = random_layer(4, causal)
    x = normal(2, 9, 12)
    (slope,) = gradient(lambda x: layer(x)[:, -1], x)
    assert np.all(np.isfinite(slope))
    assert np.all(np.abs(slope).max(axis=-1) > 1e-6)


def test_low_precision_follows_float32_far_out():
    properties.check_far_positions(
        partial(MixedChunkMultiHeadAttention, 2, chunk_size=4),
        lambda layer, x, positions: layer(x, positions=positions),
        power=2,
    )


def test_dropout():
    properties.check_dropout(partial(MixedChunkMultiHeadAttention, 2, chunk_size=4))


def test_the_linear_products_start_as_large_as_means():
    layer = MixedChunkMultiHeadAttention(2, 4)
    layer.build((None, None, 8))
    weights = named_weights(layer)
    for name in ("linear_query_scale", "linear_key_scale"):
        np.testing.assert_allclose(to_numpy(weights[f"{name}/scale"].value), 0.5)
        assert not to_numpy(weights[f"{name}/offset"].value).any()


def test_refusals():
    with pytest.raises(ValueError, match="`chunk_size` must be at least 1"):
        MixedChunkMultiHeadAttention(2, chunk_size=0)
    with pytest.raises(ValueError, match="ReRoPE computes the scores"):
        MixedChunkMultiHeadAttention(2, rotary_embedding=ReRoPE())
    with pytest.raises(ValueError, match="even, positive"):
        MixedChunkMultiHeadAttention(2, head_dim=5)(normal(1, 3, 8))
    with pytest.raises(ValueError, match="12 cannot be shared by 5 heads"):
        MixedChunkMultiHeadAttention(5)(normal(1, 3, 12))
    layer, _ = random_layer()
    with pytest.raises(ValueError, match="`padding_mask` must have shape"):
        layer(normal(2, 5, 12), padding_mask=np.ones((2, 1, 5), bool))
