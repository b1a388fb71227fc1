"""URPE against loops over heads and pairs of places."""

import json
import math

import numpy as np
import pytest
import reference
from contract import named_weights, randomize, to_numpy
from gradients import gradient
from keras import ops

from bert4keras3.layers import position_weighting
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.position_weighting import ToeplitzWeighting
from bert4keras3.models import GAUAlphaBackbone

B, T, D, LIMIT = 2, 9, 12, 3  # distances up to 8, of which 3 are told apart
X = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
REAL = np.arange(T) < np.array([[T], [5]])
POSITIONS = {
    "none": None,
    "shared": np.arange(T) * 2 + 7,
    "by row": np.cumsum(np.random.default_rng(1).integers(1, 3, (B, T)), axis=1),
}
FACTORS = "attention/position_weighting/factors"


def weighted(weights, table, positions):
    """Every weight times the factor of its head at the clipped distance `j - i`."""
    positions = np.arange(T) if positions is None else positions
    positions = np.broadcast_to(positions, (B, T))
    result = np.zeros(weights.shape)
    for b, h, i, j in np.ndindex(weights.shape):
        distance = positions[b, j] - positions[b, i]
        distance = max(-LIMIT, min(LIMIT, distance))
        head = 0 if table.shape[1] == 1 else h
        result[b, h, i, j] = table[distance + LIMIT, head] * weights[b, h, i, j]
    return result


def attend(q, k, v, table, positions):
    logits = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    weights = reference.attention_weights(logits, REAL[:, None, None])
    return weighted(weights, table, positions) @ v


def multi_head(w, positions):
    q, k, v = (
        np.stack(np.split(reference.dense(X, w, f"{name}_dense"), 2, axis=-1), axis=1)
        for name in ("query", "key", "value")
    )
    joined = np.concatenate(
        list(np.moveaxis(attend(q, k, v, w[FACTORS], positions), 1, 0)), axis=-1
    )
    return reference.dense(joined, w, "output_dense")


def gau(w, positions):
    z = reference.dense(X, w, "shared_dense", "silu")
    q, k = (
        z * w[f"{name}_scale/scale"] + w[f"{name}_scale/offset"]
        for name in ("query", "key")
    )
    v = reference.dense(X, w, "value_dense", "silu")
    attended = attend(q[:, None], k[:, None], v[:, None], w[FACTORS], positions)
    gate = reference.dense(X, w, "gate_dense", "silu")
    return reference.dense(gate * attended[:, 0], w, "output_dense")


LAYERS = {
    "attention": (lambda urpe: MultiHeadAttention(2, 4, position_weighting=urpe), 2),
    "gau": (
        lambda urpe: GatedAttentionUnit(
            10, 4, normalizer="softmax", use_bias=True, position_weighting=urpe
        ),
        1,
    ),
}
FORMULAS = {"attention": multi_head, "gau": gau}


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("share_heads", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_against_loops(kind, share_heads, positions):
    positions = POSITIONS[positions]
    make, heads = LAYERS[kind]
    layer = make(ToeplitzWeighting(LIMIT, share_heads, name="position_weighting"))
    layer.build(X.shape)
    w = randomize(layer)
    assert w[FACTORS].shape == (2 * LIMIT + 1, 1 if share_heads else heads)
    options = {"positions": positions}
    if kind == "attention":
        options = {"query_positions": positions, "key_positions": positions}
    given = to_numpy(layer(X, padding_mask=REAL, **options))
    expected = FORMULAS[kind](w, positions)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(given[REAL], expected[REAL], atol=1e-5 * scale)


def test_more_keys_than_queries():
    weights = np.random.default_rng(2).uniform(size=(1, 2, 3, 8)).astype("float32")
    urpe = ToeplitzWeighting(4)
    urpe.build((None, 2, 3, 4))
    table = randomize(urpe)["factors"]
    given = to_numpy(urpe(weights, np.array([0.0, 5.5, 90.0], "float32")))
    for h, i, j in np.ndindex(2, 3, 8):
        # Fractions of a distance are cut.
        distance = int(np.clip(j - [0, 5.5, 90][i], -4, 4))
        expected = table[distance + 4, h] * weights[0, h, i, j]
        np.testing.assert_allclose(given[0, h, i, j], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_fresh_table_changes_nothing(kind):
    make, _ = LAYERS[kind]
    fresh, plain = make("urpe"), make(None)
    fresh.build(X.shape), plain.build(X.shape)
    values = randomize(plain)
    for name, weight in named_weights(fresh).items():
        if name != FACTORS:
            weight.assign(values[name])
    given, expected = (to_numpy(m(X, padding_mask=REAL)) for m in (fresh, plain))
    np.testing.assert_array_equal(given, expected)


def test_the_gradient_reaches_every_factor_in_sight():
    urpe = ToeplitzWeighting(LIMIT)
    urpe.build((None, 2, T, 4))
    weights = np.random.default_rng(3).uniform(0.1, 1, (B, 2, T, T)).astype("float32")

    # A stand-in with the table as an input, which every backend can differentiate by.
    class Table:
        max_distance = LIMIT

    def weigh_with(table):
        stand_in = Table()
        stand_in.factors = 1.0 * table  # a dense gradient on TensorFlow
        return ToeplitzWeighting.weigh(stand_in, ops.convert_to_tensor(weights))

    (slopes,) = gradient(weigh_with, to_numpy(urpe.factors))
    expected = np.zeros((2 * LIMIT + 1, 2))
    for b, h, i, j in np.ndindex(weights.shape):
        expected[np.clip(j - i, -LIMIT, LIMIT) + LIMIT, h] += weights[b, h, i, j]
    np.testing.assert_allclose(slopes, expected, rtol=1e-5)
    assert [weight.trainable for weight in urpe.weights] == [True]


def test_hidden_keys_keep_weight_zero():
    core = DotProductAttention(position_weighting=ToeplitzWeighting(LIMIT))
    q = np.ones((1, 1, T, 4), "float32")
    core.build(q.shape)
    core.position_weighting.factors.assign(np.full((2 * LIMIT + 1, 1), 3.0))
    mask = (np.arange(T) < 4)[None, None, None]
    _, weights = core(q, q, q, attention_mask=mask, return_weights=True)
    weights = to_numpy(weights)
    assert np.all(weights[..., 4:] == 0)
    np.testing.assert_allclose(weights[..., :4], 0.75, rtol=1e-6)


def test_one_for_all_layers_or_one_in_each():
    def tables(urpe):
        model = GAUAlphaBackbone(30, 3, 16, 32, key_dim=8, position_weighting=urpe)
        again = GAUAlphaBackbone.from_config(json.loads(json.dumps(model.get_config())))
        assert len(again.scheme_weights) == len(model.scheme_weights)
        again.set_weights(model.get_weights())
        return len(model.scheme_weights)

    assert tables("urpe") == tables(ToeplitzWeighting(8)) == 1
    assert tables(ToeplitzWeighting(8, shared_by_layers=False)) == 3
    # Layers by hand: one instance is one table.
    shared = ToeplitzWeighting(8)
    layers = [MultiHeadAttention(2, 4, position_weighting=shared) for _ in range(2)]
    apart = [
        MultiHeadAttention(2, 4, position_weighting=ToeplitzWeighting(8))
        for _ in range(2)
    ]
    for layer in layers + apart:
        layer.build(X.shape)
    first, second = (layer.attention.position_weighting for layer in layers)
    assert first.factors is second.factors
    apart[0].attention.position_weighting.factors.assign(np.full((17, 2), 2.0))
    assert np.all(to_numpy(apart[1].attention.position_weighting.factors) == 1)


def test_config():
    urpe = ToeplitzWeighting(5, share_heads=True, shared_by_layers=False)
    config = json.loads(json.dumps(position_weighting.serialize(urpe)))
    again = position_weighting.get(config)
    assert type(again) is ToeplitzWeighting
    assert again.get_config() == urpe.get_config()
    assert (again.max_distance, again.share_heads) == (5, True)
    assert again.shared_by_layers is False


def test_what_is_refused():
    with pytest.raises(ValueError, match="`max_distance` must be at least 1.*0"):
        ToeplitzWeighting(0)
    with pytest.raises(ValueError, match="Unknown position weighting 'urp'.*'urpe'"):
        position_weighting.get("urp")
