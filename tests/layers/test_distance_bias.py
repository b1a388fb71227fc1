"""Functions of the distance against their formulas, pair by pair."""

import math

import keras
import numpy as np
import pytest
from contract import to_numpy
from keras import ops

from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.distance_bias import (
    ALiBi,
    KERPLELog,
    KERPLELog3,
    KERPLEPower,
    Sandwich,
    alibi_slopes,
)
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.multi_head_attention import MultiHeadAttention

N, T, S, H = 8, 5, 7, 6
QUERY = np.random.default_rng(0).normal(size=(2, N, T, H)).astype("float32")
A = np.linspace(0.2, 1.5, N)  # first, second and third parameter, by head
R = np.linspace(0.1, 0.9, N)
P = np.linspace(0.3, 1.9, N)


def alibi(h, d):
    return -(2.0 ** -(h + 1)) * abs(d)


def sandwich(h, d, dim=H):
    waves = (math.cos(d / 10000 ** (2 * i / dim)) for i in range(1, dim // 2 + 1))
    return (sum(waves) - dim / 2) / (8 * (h + 1) / N)


# Scheme, values of its weights, and what it adds in head h at the distance i - j.
CASES = {
    "alibi": (ALiBi(), {}, alibi),
    "alibi_bidirectional": (
        ALiBi(bidirectional=True),
        {},
        lambda h, d: alibi(h, d) + 2.0 ** -(h + 1) / 2 * (d > 0),
    ),
    "kerple_power": (
        KERPLEPower(),
        {"factor": A, "exponent": P},
        lambda h, d: -A[h] * abs(d) ** P[h],
    ),
    "kerple_log": (
        KERPLELog(),
        {"factor": A, "rate": R},
        lambda h, d: -A[h] * math.log(1 + R[h] * abs(d)),
    ),
    "kerple_log_3": (
        KERPLELog3(),
        {"factor": A, "rate": R, "exponent": P},
        lambda h, d: -A[h] * math.log(1 + R[h] * abs(d) ** P[h]),
    ),
    "sandwich": (Sandwich(), {}, sandwich),
    "sandwich of 128": (Sandwich(dim=128), {}, lambda h, d: sandwich(h, d, 128)),
}
for scheme, values, _ in CASES.values():
    scheme.build(QUERY.shape)
    for name, value in values.items():
        getattr(scheme, name).assign(value)


def expected(formula, rows, columns):
    bias = np.empty((N, len(rows), len(columns)))
    for h, i, j in np.ndindex(bias.shape):
        bias[h, i, j] = formula(h, rows[i] - columns[j])
    return bias


@pytest.mark.parametrize("name", CASES)
def test_against_the_formula(name):
    scheme, _, formula = CASES[name]
    given = to_numpy(scheme.bias(QUERY, S))
    assert given.dtype == np.float32
    np.testing.assert_allclose(
        given, expected(formula, np.arange(T), np.arange(S)), rtol=1e-5, atol=2e-5
    )
    rows = np.array([[0.5, 1, 4, 9, 30], [2, 3, 7, 7.5, 8]], "float32")
    columns = np.arange(S, dtype="float32") * 2
    given = to_numpy(scheme.bias(QUERY, S, rows, columns))
    for one, row in zip(given, rows, strict=True):
        wanted = expected(formula, row, columns)
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_far_positions_and_shifts(name):
    scheme, _, formula = CASES[name]
    rows = np.arange(T) + 16000.0
    given = to_numpy(scheme.bias(QUERY, S, rows, np.arange(S) + 16000.0))
    near = expected(formula, np.arange(T), np.arange(S))
    np.testing.assert_allclose(given, near, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_it_reaches_every_attention(name):
    """The attention with the scheme equals the attention with the bias handed over."""
    scheme, _, formula = CASES[name]
    x = np.random.default_rng(1).normal(size=(2, S, 16)).astype("float32")
    real = np.arange(S) < np.array([[S], [4]])
    makers = (
        lambda **kw: MultiHeadAttention(N, 2, H, **kw),
        lambda **kw: GatedAttentionUnit(16, H, **kw),
    )
    for make, heads in zip(makers, (N, 1), strict=True):
        own = type(scheme).from_config(scheme.get_config())
        layer, plain = make(position_bias=own), make()
        layer.build(x.shape), plain.build(x.shape)
        mine = {v.path.split("/", 1)[1]: v for v in layer.weights}
        for weight in plain.weights:
            weight.assign(mine[weight.path.split("/", 1)[1]])
        bias = own.bias(np.ones((1, heads, S, H), "float32"), S)
        expected = to_numpy(plain(x, padding_mask=real, attention_bias=bias[None]))
        given = to_numpy(layer(x, padding_mask=real))
        np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["alibi", "kerple_log", "sandwich"])
def test_distances_are_never_rounded(name, policy):
    """256 and 257 are one number in bfloat16, and their bias is not."""
    scheme, values, _ = CASES[name]
    query = QUERY.astype("float16")
    low = type(scheme)(dtype=policy)
    low.build(QUERY.shape)
    for parameter, value in values.items():
        getattr(low, parameter).assign(value)
    at = np.arange(T) + 4090
    keys = np.arange(S)
    np.testing.assert_allclose(
        to_numpy(low.bias(query, S, at, keys)),
        to_numpy(scheme.bias(QUERY, S, at, keys)),
        atol=1e-5,
    )


def test_alibi_slopes():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-h for h in range(1, 9)])
    np.testing.assert_allclose(alibi_slopes(1), [2.0**-8])
    twelve = alibi_slopes(12)
    between = [0.7071, 0.3536, 0.1768, 0.0884]
    np.testing.assert_allclose(twelve[:8], alibi_slopes(8))
    np.testing.assert_allclose(twelve[8:], between, atol=5e-5)


def test_limits():
    """KERPLE's power kernel of exponent 1 is ALiBi, its log of small rate linear."""
    slopes = alibi_slopes(N)
    linear = KERPLEPower()
    linear.build(QUERY.shape)
    linear.factor.assign(slopes), linear.exponent.assign(np.ones(N))
    alibi_bias = to_numpy(ALiBi().bias(QUERY, S))
    # The lowest parameter is 0.01, above the smallest slopes.
    steep = slopes > 0.01
    np.testing.assert_allclose(
        to_numpy(linear.bias(QUERY, S))[steep], alibi_bias[steep], rtol=1e-5, atol=1e-6
    )
    log = KERPLELog()
    log.build(QUERY.shape)
    log.factor.assign(slopes / 0.01), log.rate.assign(np.full(N, 0.01))
    np.testing.assert_allclose(
        to_numpy(log.bias(QUERY, S))[steep], alibi_bias[steep], rtol=0.05, atol=1e-6
    )


def test_parameters_are_held_at_their_bounds():
    kerple = KERPLEPower()
    kerple.build(QUERY.shape)
    kerple.factor.assign(np.full(N, -3.0)), kerple.exponent.assign(np.full(N, 5.0))
    given = to_numpy(kerple.bias(QUERY, S))
    np.testing.assert_allclose(
        given,
        expected(lambda h, d: -0.01 * d**2, np.arange(T), np.arange(S)),
        atol=1e-5,
    )


@pytest.mark.parametrize("make", [KERPLEPower, KERPLELog, KERPLELog3])
def test_a_large_step_ends_at_the_bounds(make):
    """Beyond them a weight would have to come all the way back before it acts."""
    kerple = make()
    kerple.build(QUERY.shape)
    weights = kerple.trainable_weights
    for slope, ends in ((1.0, 0), (-1.0, 1)):
        optimizer = keras.optimizers.SGD(1e12)
        optimizer.apply([ops.full((N,), slope) for _ in weights], weights)
        for weight in weights:
            bounds = (0.01, make.parameters[weight.name][1])
            np.testing.assert_allclose(to_numpy(weight), bounds[ends], rtol=1e-6)


def test_one_head_and_no_head_are_told_apart():
    core = DotProductAttention(position_bias="alibi")
    one = np.ones((1, 1, 3, 4), "float32")
    _, logits = core(one, one, one, return_logits=True)
    np.testing.assert_allclose(to_numpy(logits)[0, 0, 2], [2 - 2 / 256, 2 - 1 / 256, 2])


def test_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="even, positive"):
        Sandwich(dim=7).bias(QUERY, S)
