"""Multi-head attention against the original, the formulas, and common sense."""

from functools import partial

import attention_properties as properties
import golden_layers
import numpy as np
import pytest
import reference
from contract import assign, named_weights, randomize, to_numpy

from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax
from bert4keras3.layers.multi_head_attention import MultiHeadAttention

RNG = np.random.default_rng(19)
NORMALIZERS = ("softmax", "softmax_plus", "squared_relu")
FORMULA = {"softmax_plus": "entropy_invariant_softmax"}
CASES = golden_layers.names("mha_", without=("mha_t5_", "mha_typical_"))


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    case = golden_layers.read(name)
    ctor, rotary = case.ctor, case.options.get("p_bias") == "rotary"
    normalizer = ctor.get("normalization", "softmax")
    layer = MultiHeadAttention(
        ctor["heads"],
        ctor["head_size"],
        key_dim=ctor.get("key_size"),
        output_dim=ctor.get("out_dim"),
        normalizer=normalizer,
        rotary_embedding="rope" if rotary else None,
        use_bias=ctor.get("use_bias", True),
        use_scale=ctor.get("attention_scale", True),
    )
    arrays = [case.inputs[each] for each in "qkv"]
    layer.build(*(each.shape for each in arrays))
    table = {"q": "query", "k": "key", "v": "value", "o": "output"}
    weights = golden_layers.renamed(
        case.weights, {f"{k}_dense": f"{v}_dense" for k, v in table.items()}
    )
    assign(layer, weights)

    padding = case.masks.get("v")
    arguments, formula = {"padding_mask": padding}, {}
    visible = None if padding is None else padding[:, None, None, :] > 0
    added = case.inputs.get("a_bias")
    if added is not None:
        with_heads = added[:, None] if added.ndim == 3 else added
        if added.dtype == bool:
            arguments["attention_mask"] = added
            visible = with_heads if visible is None else visible & with_heads
        else:
            arguments["attention_bias"] = added
            formula["bias"] = with_heads
    if rotary:
        golden_layers.check_positions_count_from_zero(case.inputs["pos"])
    given = layer(*arrays, return_logits=True, **arguments)
    output, _, products = reference.multi_head_attention(
        *(each.astype("float64") for each in arrays),
        weights,
        ctor["heads"],
        visible=visible,
        rotary=rotary,
        normalizer=FORMULA.get(normalizer, normalizer),
        use_scale=ctor.get("attention_scale", True),
        **formula,
    )
    rtol = 1e-4 if normalizer == "squared_relu" else 0
    assert len(case.outputs) == 1 + ctor.get("return_attention_scores", False)
    for ours, by_formula, stored in zip(
        given, (output, products), case.outputs, strict=False
    ):
        for result in (to_numpy(ours), by_formula):
            np.testing.assert_allclose(
                result, stored, rtol=rtol, atol=golden_layers.TOLERANCE
            )


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_against_the_formulas_with_unequal_sizes(normalizer, use_bias):
    query, key, value = normal(2, 3, 7), normal(2, 6, 5), normal(2, 6, 4)
    padding = np.arange(6) < np.array([[6], [2]])
    structure = RNG.random((2, 3, 3, 6)) < 0.7
    bias = normal(2, 3, 3, 6)
    layer = MultiHeadAttention(
        3,
        2,
        key_dim=4,
        output_dim=10,
        normalizer=normalizer,
        rotary_embedding="rope",
        use_bias=use_bias,
    )
    layer.build(query.shape, key.shape, value.shape)
    weights = randomize(layer)
    positions = {
        "query_positions": RNG.uniform(0, 50, size=(2, 3)).astype("float32"),
        "key_positions": np.arange(6) * 3,
    }
    given = layer(
        query,
        key,
        value,
        padding,
        structure,
        bias,
        return_logits=True,
        return_weights=True,
        **positions,
    )
    output, scores, products = reference.multi_head_attention(
        *(each.astype("float64") for each in (query, key, value)),
        weights,
        3,
        visible=structure & padding[:, None, None],
        bias=bias,
        rotary=True,
        normalizer=FORMULA.get(normalizer, normalizer),
        **positions,
    )
    for ours, expected in zip(given, (output, products, scores), strict=True):
        assert ours.shape == expected.shape
        np.testing.assert_allclose(to_numpy(ours), expected, rtol=1e-4, atol=3e-5)


def test_key_and_value_default_to_the_query():
    x = normal(2, 4, 6)
    positions = np.array([3, 1, 4, 1])
    layer = MultiHeadAttention(2, 3, key_dim=4, rotary_embedding="rope")
    given = to_numpy(layer(x, query_positions=positions))
    asked = layer(x, x, x, query_positions=positions, key_positions=positions)
    np.testing.assert_array_equal(given, to_numpy(asked))
    key = normal(2, 5, 6)
    np.testing.assert_array_equal(to_numpy(layer(x, key)), to_numpy(layer(x, key, key)))


def test_key_positions_of_ones_own_are_kept_in_self_attention():
    x = normal(2, 4, 6)
    layer = MultiHeadAttention(2, 3, key_dim=4, rotary_embedding="rope")
    given = layer(x, key_positions=np.arange(4) + 2)
    asked = layer(x, x, key_positions=np.arange(4) + 2)
    np.testing.assert_array_equal(to_numpy(given), to_numpy(asked))
    assert np.abs(to_numpy(layer(x)) - to_numpy(given)).max() > 1e-4


def test_sizes_that_are_not_given():
    layer = MultiHeadAttention(3, 4)
    config = layer.get_config()
    assert (config["key_dim"], config["output_dim"]) == (4, 12)


def test_the_extras_that_are_asked_for():
    x = normal(2, 5, 8)
    layer = MultiHeadAttention(2, 4)
    _, logits = layer(x, return_logits=True)
    _, weights = layer(x, return_weights=True)
    assert tuple(logits.shape) == tuple(weights.shape) == (2, 2, 5, 5)
    np.testing.assert_allclose(to_numpy(weights).sum(-1), 1, atol=1e-5)
    # In float32 under every policy.
    _, logits, weights = MultiHeadAttention(2, 4, dtype="mixed_float16")(
        x, return_logits=True, return_weights=True
    )
    assert "float32" in str(logits.dtype) and "float32" in str(weights.dtype)


def test_heads_do_not_mix_before_the_output():
    x = normal(1, 5, 8)
    layer = MultiHeadAttention(2, 4)
    layer.build(x.shape)
    weights = randomize(layer)
    _, before = layer(x, return_weights=True)
    for name in ("query_dense", "key_dense"):
        weights[f"{name}/kernel"][:, 4:] = 0
        weights[f"{name}/bias"][4:] = 0
    assign(layer, weights)
    _, after = layer(x, return_weights=True)
    np.testing.assert_array_equal(to_numpy(before)[:, 0], to_numpy(after)[:, 0])
    np.testing.assert_allclose(to_numpy(after)[:, 1], 1 / 5, atol=1e-6)


def test_keys_are_hidden_by_the_key_mask():
    query, key = normal(2, 3, 8), normal(2, 7, 6)
    padding = np.arange(7) < np.array([[7], [2]])
    layer = MultiHeadAttention(2, 4, normalizer="softmax_plus")
    expected = to_numpy(layer(query, key, padding_mask=padding))
    other = np.where(padding[..., None], key, 30 * normal(2, 7, 6))
    given = to_numpy(layer(query, other, padding_mask=padding))
    np.testing.assert_allclose(given, expected, atol=1e-5)
    shorter = to_numpy(layer(query[1:], key[1:, :2]))
    np.testing.assert_allclose(shorter, expected[1:], atol=1e-5)


def attend_with(normalizer="softmax", use_bias=True, **options):
    layer = MultiHeadAttention(
        3,
        4,
        key_dim=6,
        normalizer=normalizer,
        rotary_embedding="rope",
        use_bias=use_bias,
        **options,
    )
    layer.build((None, None, properties.D))
    randomize(layer)

    def attend(x, positions=None, **arguments):
        return layer(x, query_positions=positions, **arguments)

    return attend, layer


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize(
    "check",
    [
        properties.check_padding_content,
        properties.check_padded_length,
        properties.check_causal,
        properties.check_positions,
    ],
    ids=lambda check: check.__name__,
)
def test_properties(check, normalizer):
    check(attend_with(normalizer)[0])


def test_causal_without_a_floor_of_the_length():
    properties.check_causal(attend_with(EntropyInvariantSoftmax(min_length=1))[0])


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "mixed_float16"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_row_of_padding_gives_zeros(normalizer, policy):
    attend, _ = attend_with(normalizer, use_bias=False, dtype=policy)
    assert np.all(properties.check_empty_rows(attend) == 0)
    attend, layer = attend_with(normalizer, use_bias=True, dtype=policy)
    bias = to_numpy(named_weights(layer)["output_dense/bias"])
    empty = properties.check_empty_rows(attend)
    np.testing.assert_allclose(empty, np.broadcast_to(bias, empty.shape), rtol=0.01)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_low_precision_follows_float32_far_out(normalizer):
    make = partial(
        MultiHeadAttention, 3, 4, 6, normalizer=normalizer, rotary_embedding="rope"
    )
    properties.check_far_positions(
        make,
        lambda layer, x, positions: layer(x, query_positions=positions),
        power=2 if normalizer == "squared_relu" else 1,
    )


def test_dropout():
    properties.check_dropout(partial(MultiHeadAttention, 3, 4))


def test_an_odd_key_size_needs_no_rotation():
    x = normal(1, 3, 8)
    assert tuple(MultiHeadAttention(2, 4, key_dim=5)(x).shape) == (1, 3, 8)
    with pytest.raises(ValueError, match="even, positive"):
        MultiHeadAttention(2, 4, key_dim=5, rotary_embedding="rope")(x)


def test_masks_of_another_rank_are_refused():
    attend, _ = attend_with()
    x = normal(2, 5, properties.D)
    with pytest.raises(ValueError, match="`padding_mask` must have shape"):
        attend(x, padding_mask=np.ones((2, 1, 1, 5), bool))
    with pytest.raises(ValueError, match="`attention_mask` must have shape"):
        attend(x, attention_mask=np.ones(5, bool))


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'softmax_plus'"):
        MultiHeadAttention(2, 4, normalizer="softmaxplus")
    with pytest.raises(TypeError, match="attention normalizer"):
        MultiHeadAttention(2, 4, normalizer=1.0)
