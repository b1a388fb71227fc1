"""Transformer-XL's positions against the equation, pair by pair, and properties."""

import functools
import math

import keras
import numpy as np
import position_properties as properties
import pytest
from contract import assign, named_weights, randomize, to_numpy
from gradients import compiled, gradient

from bert4keras3.layers import attention_mask
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.transformer_xl import TransformerXLBias
from bert4keras3.models import GAUAlphaBackbone, RoFormerV2Backbone

N, T, S, H = 2, 5, 7, 8
WEIGHTS = ("kernel", "content_bias", "position_bias")
# Of each side: none given, one row for all, and fractions by row.
POSITIONS = {
    "default": (None, None),
    "shared": (np.array([3, 0, 9, 4, 40]), np.array([7, 1, 0, 30, 2, 2, 5])),
    "per row": (
        np.random.default_rng(5).uniform(0, 30, (2, T)).astype("float32"),
        np.random.default_rng(6).uniform(0, 30, (2, S)).astype("float32"),
    ),
    "one side": (None, np.random.default_rng(6).uniform(0, 30, (2, S))),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sinusoid(distance, dim):
    """`r_d`: the sines of all frequencies, then the cosines."""
    angles = [distance * 10000.0 ** (-2 * m / dim) for m in range(dim // 2)]
    return np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def pair_by_pair(query, key, w, rows, columns, norm=None, scale=1.0):
    """Logits `(B, N, T, S)` of the equation; `norm` stands for a query norm."""
    norm = norm or (lambda x: x)
    kernel, u, v = (np.asarray(w[name], "float64") for name in WEIGHTS)
    heads, size = u.shape
    logits = np.empty((*query.shape[:-1], key.shape[-2]))
    for b, h, i, j in np.ndindex(logits.shape):
        seen = kernel[:, h * size : (h + 1) * size]
        distance = rows[b, i] - columns[b, j]
        vector = seen.T @ sinusoid(distance, len(kernel))
        content = norm(query[b, h, i] + u[h]) @ key[b, h, j]
        logits[b, h, i, j] = scale * (content + norm(query[b, h, i] + v[h]) @ vector)
    return logits


def over_batch(positions, length):
    positions = np.arange(length) if positions is None else positions
    return np.broadcast_to(np.asarray(positions, "float64"), (2, length))


def weights_of(values):
    return {name.rpartition("/")[2]: values[name] for name in values}


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, H**-0.5), ({"use_scale": False}, 1.0), ({"query_key_norm": "query_norm"}, 1)],
    ids=["scaled", "unscaled", "normed"],
)
@pytest.mark.parametrize("dim", [None, 6])
def test_logits_against_the_equation(positions, options, scale, dim):
    rows, columns = POSITIONS[positions]
    query, key, value = (
        normal(2, N, T, H),
        normal(2, N, S, H, seed=1),
        normal(2, N, S, 3),
    )
    core = DotProductAttention(position_bias=TransformerXLBias(dim), **options)
    core.build(query.shape, key.shape, value.shape)
    weights = weights_of(randomize(core))
    assert weights["kernel"].shape == (dim or N * H, N * H)
    places = dict(query_positions=rows, key_positions=columns)
    call = compiled(functools.partial(core, **places, return_logits=True))
    _, given = call(query, key, value)
    norm = (lambda x: x / math.sqrt(x @ x)) if "query_key_norm" in options else None
    expected = pair_by_pair(
        query.astype("float64"),
        key,
        weights,
        over_batch(rows, T),
        over_batch(columns, S),
        norm,
        scale,
    )
    np.testing.assert_allclose(to_numpy(given), expected, atol=1e-5)


@pytest.mark.parametrize("positions", [None, np.linspace(0, 20, properties.T) ** 1.3])
def test_in_both_attentions_with_padding(positions):
    def logits(query, key, w, scale):
        at = over_batch(positions, properties.T)
        prefix = "attention/position_bias/"
        own = {name: w[prefix + name] for name in WEIGHTS}
        return pair_by_pair(query, key, own, at, at, scale=scale)

    properties.check_in_attention(logits, positions, position_bias="transformer_xl")


def test_only_distances_count():
    layer = MultiHeadAttention(2, 8, position_bias="transformer_xl")
    x, at = normal(2, 9, 12), np.arange(9) * 1.5
    layer.build(x.shape)
    randomize(layer)

    call = compiled(lambda positions: layer(x, query_positions=positions))

    def run(by_row):
        return to_numpy(call(np.broadcast_to(at + by_row, (2, 9))))

    expected = run(np.zeros((2, 1)))
    for shift in (1000.0, 60000.0, -7.0):
        np.testing.assert_allclose(run([[0.0], [shift]]), expected, atol=1e-5)
    assert np.abs(run(at) - expected).max() > 1e-3
    backwards = to_numpy(call(np.broadcast_to(-at, (2, 9))))
    assert np.abs(backwards - expected).max() > 1e-3


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_positions_are_never_rounded(policy):
    query, at, keys_at = normal(2, N, T, H), np.arange(T) + 4090, np.arange(S)
    exact, low = TransformerXLBias(), TransformerXLBias(dtype=policy)
    exact.build(query.shape), low.build(query.shape)
    assign(low, randomize(exact))
    half = query.astype("float16")
    given = to_numpy(low.bias(half, S, at, keys_at))
    expected = to_numpy(exact.bias(half.astype("float32"), S, at, keys_at))
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_window_in_blocks_equals_the_mask():
    x, real = normal(2, 23, 12), np.arange(23) < np.array([[23], [14]])
    at = np.arange(23) * 1.5 + 100
    window = attention_mask.WindowMask(3, two_way=True)
    blocks = MultiHeadAttention(2, 8, position_bias="transformer_xl", window=window)
    whole = MultiHeadAttention(2, 8, position_bias="transformer_xl")
    blocks.build(x.shape), whole.build(x.shape)
    assign(whole, randomize(blocks))

    def in_blocks(x):
        return blocks(x, padding_mask=real, query_positions=at)

    def masked(x):
        return whole(x, attention_mask=window(real), query_positions=at)

    given, expected = (to_numpy(compiled(f)(x)) for f in (in_blocks, masked))
    np.testing.assert_allclose(given[real], expected[real], atol=1e-5)


def test_it_starts_as_content_without_u_and_v():
    bias = TransformerXLBias()
    bias.build((None, N, None, H))
    values = {name: to_numpy(v.value) for name, v in named_weights(bias).items()}
    assert not values["content_bias"].any() and not values["position_bias"].any()
    # Glorot's limit of a matrix of this shape.
    limit = math.sqrt(6 / (2 * N * H))
    assert 0.8 * limit < np.abs(values["kernel"]).max() <= limit
    query = normal(2, N, T, H)
    np.testing.assert_array_equal(
        to_numpy(bias.content_query(keras.ops.convert_to_tensor(query))), query
    )


def test_every_weight_and_the_input_have_gradients():
    layer = MultiHeadAttention(2, 8, position_bias="transformer_xl")
    x = normal(2, 5, 12)
    layer.build(x.shape)
    randomize(layer)
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = {name: to_numpy(v.value) for name, v in named_weights(layer).items()}
    model.train_on_batch(x, normal(2, 5, 16, seed=1))
    for name, old in before.items():
        change = np.abs(to_numpy(named_weights(layer)[name].value) - old)
        # A key bias adds to all logits of a row alike, which a softmax ignores.
        if name != "key_dense/bias":
            assert change.max() > 1e-5, name
    (slope,) = gradient(layer, x)
    assert np.all(np.isfinite(slope)) and np.abs(slope).max() > 0


@pytest.mark.parametrize("shared", [True, False])
def test_one_for_all_layers_or_one_in_each(shared):
    scheme = TransformerXLBias(8, shared_by_layers=shared)
    model = RoFormerV2Backbone(30, 3, 2, 16, 32, position_bias=scheme)
    assert len(model.scheme_weights) == (3 if shared else 9)
    again = type(model).from_config(model.get_config())
    assert again.scheme_weights == model.scheme_weights


def test_it_learns_what_needs_order():
    """Two rows of equal tokens in another order get different outputs."""
    model = GAUAlphaBackbone(
        30, 1, 16, 32, key_dim=8, rotary_embedding=None, position_bias="transformer_xl"
    )
    for weight in model.weights:
        weight.assign(normal(*weight.shape) * 0.5)
    ids = np.array([[1, 2, 3, 4], [3, 2, 1, 4]])
    given = to_numpy(model({"token_ids": ids}))
    assert np.abs(given[0, 3] - given[1, 3]).max() > 1e-3


def test_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="even, positive"):
        TransformerXLBias(dim=7).build((None, N, None, H))
    with pytest.raises(ValueError, match="even, positive"):
        TransformerXLBias().build((None, 3, None, 5))
