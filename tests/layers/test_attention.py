"""The attention core: numbers, visibility, precision, hooks."""

import golden_layers
import keras
import numpy as np
import pytest
import reference
from contract import to_numpy
from gradients import gradient

from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_normalizer import AttentionNormalizer
from bert4keras3.ops import merge_masks

RNG = np.random.default_rng(11)
NORMALIZERS = ("softmax", "softmax_plus", "squared_relu")
# As reference.py names them.
FORMULA = {"softmax_plus": "entropy_invariant_softmax"}
B, N, T, S, H, E = 2, 3, 4, 6, 8, 5


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def core_inputs(length=T, keys=S):
    return normal(B, N, length, H), normal(B, N, keys, H), normal(B, N, keys, E)


def weights_from_logits(normalizer, logits, mask=None, bias=None):
    """Run the core on given logits: with unit keys, a query is its row of logits."""
    length, keys = logits.shape[-2:]
    core = DotProductAttention(normalizer, use_scale=False, dtype="float32")
    unit = np.broadcast_to(np.eye(keys, dtype="float32"), (len(logits), 1, keys, keys))
    _, weights = core(
        logits.reshape(len(logits), 1, length, keys),
        unit,
        unit,
        attention_mask=mask,
        attention_bias=bias,
        return_weights=True,
    )
    return to_numpy(weights)[:, 0]


@pytest.mark.parametrize("bias", ["", "bool", "float"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_golden_attention_normalize(normalizer, padded, bias):
    stored = golden_layers.arrays("fn_attention_normalize")
    tag = ("mask" if padded else "") + (f"_{bias}bias" if bias else "")
    expected = stored[f"{normalizer}__{tag.lstrip('_') or 'none'}"]
    mask = merge_masks(
        stored["mask"] if padded else None,
        stored["bool_bias"] if bias == "bool" else None,
    )
    added = stored["float_bias"] if bias == "float" else None
    given = weights_from_logits(normalizer, stored["a"], mask, added)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_every_golden_attention_normalize_is_tested():
    stored = golden_layers.arrays("fn_attention_normalize")
    results = set(stored) - {"a", "mask", "bool_bias", "float_bias"}
    tags = ("none", "mask", "boolbias", "mask_boolbias", "mask_floatbias", "floatbias")
    assert results == {f"{name}__{tag}" for name in NORMALIZERS for tag in tags}


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("rotary", [None, "rope"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_against_the_formulas(normalizer, rotary, use_scale):
    query, key, value = core_inputs()
    mask = RNG.random((B, N, T, S)) < 0.6
    bias = normal(B, N, T, S)
    core = DotProductAttention(normalizer, rotary, use_scale)
    given = core(
        query,
        key,
        value,
        attention_mask=mask,
        attention_bias=bias,
        return_logits=True,
        return_weights=True,
    )
    output, weights, products = reference.attention(
        *(x.astype("float64") for x in (query, key, value)),
        visible=mask,
        bias=bias,
        normalizer=FORMULA.get(normalizer, normalizer),
        rotary=rotary is not None,
        use_scale=use_scale,
    )
    for one, other in zip(given, (output, products, weights), strict=True):
        np.testing.assert_allclose(to_numpy(one), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_row_without_a_visible_key_gives_zeros_and_no_nan(normalizer, policy):
    arrays = core_inputs()
    mask = np.ones((B, 1, T, S), bool)
    mask[0] = False
    mask[1, 0, 2] = False
    core = DotProductAttention(normalizer, "rope", dtype=policy)

    def attend(query, key, value):
        return core(query, key, value, attention_mask=mask)

    output = to_numpy(attend(*arrays))
    assert np.all(output[0] == 0) and np.all(output[1, :, 2] == 0)
    assert np.all(np.isfinite(output)) and np.abs(output[1]).max() > 0.01
    query_gradient, key_gradient, value_gradient = gradient(attend, *arrays)
    for each in (query_gradient, key_gradient, value_gradient):
        assert np.all(np.isfinite(each))
        assert np.all(each[0] == 0)
    assert np.all(query_gradient[1, :, 2] == 0)
    assert np.abs(value_gradient[1]).max() > 0.01


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_hidden_keys_have_no_weight_and_no_gradient(normalizer):
    arrays = core_inputs()
    mask = np.zeros((B, 1, 1, S), bool)
    mask[..., [1, 4]] = True
    core = DotProductAttention(normalizer, "rope")

    def attend(query, key, value):
        return core(query, key, value, attention_mask=mask)

    _, weights = core(*arrays, attention_mask=mask, return_weights=True)
    assert np.all(to_numpy(weights)[..., [0, 2, 3, 5]] == 0)
    _, key_gradient, value_gradient = gradient(attend, *arrays)
    assert np.all(key_gradient[:, :, [0, 2, 3, 5]] == 0)
    assert np.all(value_gradient[:, :, [0, 2, 3, 5]] == 0)


@pytest.mark.parametrize("normalizer", ["softmax", "softmax_plus"])
def test_weights_sum_to_one_over_the_visible_keys(normalizer):
    arrays = core_inputs()
    mask = np.ones((B, 1, T, S), bool)
    mask[0, 0, 0] = False
    mask[1, 0, :, 2:] = False
    core = DotProductAttention(normalizer)
    output, logits, weights = core(
        *arrays, attention_mask=mask, return_logits=True, return_weights=True
    )
    assert tuple(output.shape) == (B, N, T, E)
    assert tuple(logits.shape) == tuple(weights.shape) == (B, N, T, S)
    expected = np.ones((B, N, T))
    expected[0, :, 0] = 0
    np.testing.assert_allclose(to_numpy(weights).sum(-1), expected, atol=1e-6)
    np.testing.assert_allclose(
        to_numpy(output), to_numpy(weights) @ arrays[2], atol=1e-5
    )


def test_returned_logits_know_nothing_of_bias_mask_and_temperature():
    query, key, value = core_inputs()
    plain = DotProductAttention("softmax")(query, key, value, return_logits=True)
    full = DotProductAttention("softmax_plus")(
        query,
        key,
        value,
        attention_mask=np.zeros((1, 1, 1, S), bool),
        attention_bias=normal(B, N, T, S),
        return_logits=True,
    )
    np.testing.assert_array_equal(to_numpy(plain[1]), to_numpy(full[1]))
    expected = query @ np.swapaxes(key, -1, -2) / np.sqrt(H)
    np.testing.assert_allclose(to_numpy(plain[1]), expected, atol=1e-5)


def test_a_bias_of_rank_three_has_a_batch_and_no_heads():
    # B = N, so that a bias read as (N, T, S) would give no error but other numbers.
    query, key, value = normal(3, 3, T, H), normal(3, 3, S, H), normal(3, 3, S, E)
    bias = normal(3, T, S)
    core = DotProductAttention()
    given = core(query, key, value, attention_bias=bias)
    expected = core(query, key, value, attention_bias=bias[:, None])
    np.testing.assert_array_equal(to_numpy(given), to_numpy(expected))
    other = core(query, key, value, attention_bias=bias[None])
    assert np.abs(to_numpy(other) - to_numpy(given)).max() > 0.01


def test_a_bias_of_another_rank_is_refused():
    with pytest.raises(ValueError, match="`attention_bias` must have shape"):
        DotProductAttention()(*core_inputs(), attention_bias=normal(S))


def test_temperature_scales_the_bias_too():
    # Two visible keys of no floor: t = ln 2 / ln 512 = 1/9.
    bias = np.array([[[0.0, 9.0, 5.0]]], "float32")
    mask = np.array([[[[True, True, False]]]])
    core = DotProductAttention("softmax_plus")
    core.normalizer.min_length = 1
    zeros = np.zeros((1, 1, 1, H), "float32")
    keys = np.zeros((1, 1, 3, H), "float32")
    _, weights = core(
        zeros, keys, keys, attention_mask=mask, attention_bias=bias, return_weights=True
    )
    odds = np.exp(1.0)
    expected = [1 / (1 + odds), odds / (1 + odds), 0]
    np.testing.assert_allclose(to_numpy(weights)[0, 0, 0], expected, rtol=1e-5)


def test_the_length_counts_padding_and_structure_together():
    # 40 keys, 30 of them tokens, causal: row i sees min(i + 1, 30).
    logits = (normal(1, 40, 1) * np.arange(40) / 10).astype("float32")
    padding = np.arange(40)[None] < 30
    mask = merge_masks(padding, np.tril(np.ones((40, 40), bool)))
    given = weights_from_logits("softmax_plus", logits, mask)[0]
    for i in range(40):
        seen = min(i + 1, 30)
        row = logits[0, i, :seen].astype("float64")
        expected = reference.normalize_row(row, "entropy_invariant_softmax")
        np.testing.assert_allclose(given[i, :seen], expected, rtol=1e-4, atol=1e-7)
        assert np.all(given[i, seen:] == 0)


def test_extreme_logits_do_not_overflow():
    logits = np.array([[[3e4, -3e4, 0.0]]], "float32")
    for normalizer in ("softmax", "softmax_plus"):
        given = weights_from_logits(normalizer, logits)
        np.testing.assert_allclose(given[0, 0], [1, 0, 0], atol=1e-6)


def test_dropout_acts_on_weights_and_only_in_training():
    query, key, value = core_inputs()
    core = DotProductAttention(dropout=0.5)
    plain = DotProductAttention()
    expected, weights = plain(query, key, value, return_weights=True)
    np.testing.assert_array_equal(to_numpy(core(query, key, value)), to_numpy(expected))
    dropped, kept = core(query, key, value, return_weights=True, training=True)
    np.testing.assert_array_equal(to_numpy(kept), to_numpy(weights))
    again = core(query, key, value, training=True)
    assert np.abs(to_numpy(dropped) - to_numpy(expected)).max() > 0.01
    assert np.abs(to_numpy(dropped) - to_numpy(again)).max() > 0.01


def test_biases_keep_their_precision_under_a_bfloat16_policy():
    # 256.5 and 257 are the same bfloat16 number.
    core = DotProductAttention(dtype="mixed_bfloat16")
    zeros = np.zeros((1, 1, 1, 4), "float32")
    keys = np.zeros((1, 1, 2, 4), "float32")
    bias = np.array([[256.5, 257.0]], "float32")
    _, weights = core(zeros, keys, keys, attention_bias=bias, return_weights=True)
    odds = np.exp(0.5)
    expected = [1 / (1 + odds), odds / (1 + odds)]
    np.testing.assert_allclose(to_numpy(weights)[0, 0, 0], expected, rtol=1e-4)


def test_unknown_parts_are_refused_by_name():
    with pytest.raises(ValueError, match="Did you mean 'softmax'"):
        DotProductAttention("sofmax")
    with pytest.raises(ValueError, match="Did you mean 'rope'"):
        DotProductAttention(rotary_embedding="ropee")
    with pytest.raises(TypeError, match="attention normalizer"):
        DotProductAttention(normalizer=keras.layers.Softmax())
    with pytest.raises(TypeError, match="rotary embedding"):
        DotProductAttention(rotary_embedding=True)


def test_a_custom_normalizer_instance_is_used():
    class Uniform(AttentionNormalizer):
        def __call__(self, logits, num_keys):
            return keras.ops.ones_like(logits) / num_keys

    query, key, value = core_inputs()
    given = DotProductAttention(Uniform())(query, key, value)
    expected = np.broadcast_to(value.mean(2, keepdims=True), (B, N, T, E))
    np.testing.assert_allclose(to_numpy(given), expected, atol=1e-5)


def test_gradient_is_that_of_the_formula():
    query, key, value = core_inputs(2, 3)
    core = DotProductAttention("softmax_plus", "rope")
    given = gradient(lambda q: core(q, key, value), query)[0]
    arrays = [x.astype("float64") for x in (query, key, value)]
    options = {"normalizer": "entropy_invariant_softmax", "rotary": True}
    step = 1e-5
    for where in [(0, 0, 0, 0), (1, 2, 1, 7), (0, 1, 1, 3)]:
        ends = []
        for sign in (1, -1):
            moved = arrays[0].copy()
            moved[where] += sign * step
            ends.append(reference.attention(moved, *arrays[1:], **options)[0].sum())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert abs(given[where] - slope) < 1e-4


def test_float16_products_do_not_overflow():
    """102400 before scaling is beyond float16; 12800 after it is not."""
    query = np.full((1, 1, 1, 64), 40, "float16")
    key = np.concatenate([query, -query], axis=2)
    value = np.array([1.0, 2.0], "float16").reshape(1, 1, 2, 1)
    attention = DotProductAttention(dtype="float16")
    output, logits = attention(query, key, value, return_logits=True)
    np.testing.assert_allclose(to_numpy(logits).ravel(), [12800, -12800])
    assert float(to_numpy(output).item()) == 1.0
