"""More normalizers against their formulas, row by row."""

import math

import numpy as np
import pytest
from contract import to_numpy
from gradients import gradient
from keras import ops

from bert4keras3.layers import attention_normalizer
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_normalizer import SquaredReLU
from bert4keras3.layers.attention_normalizer_variants import (
    Exponential,
    PredictionLogSoftmax,
)
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit

B, N, T, S, H = 2, 3, 4, 9, 6
RNG = np.random.default_rng(0)
QUERY, KEY = (RNG.normal(size=(B, N, n, H)).astype("float32") for n in (T, S))
VALUE = RNG.normal(size=(B, N, S, 5)).astype("float32")
MASK = np.arange(S) < np.array([S, 5])[:, None, None, None]


def exponential_share(row):
    return np.exp(row) / np.exp(row).sum()


# What a row of `n` visible logits becomes.
ROWS = {
    "natural_log_softmax": lambda row, n: exponential_share(row * math.log(n)),
    "logn_prediction_softmax": lambda row, n: exponential_share(row),  # n < 512
    "gradient_maximizing_softmax": lambda row, n: exponential_share(
        0.84 * math.sqrt(math.log(n)) * row
    ),
    "squared_relu": lambda row, n: np.maximum(row, 0) ** 2 / n,
    "squared_relu_normalized": lambda row, n: (
        np.maximum(row, 0) ** 2 / max((np.maximum(row, 0) ** 2).sum(), 1e-30)
    ),
    "l2": lambda row, n: np.exp(row) / math.sqrt(np.exp(2 * row).sum()),
    "swish_l2": lambda row, n: (
        row / (1 + np.exp(-row)) / math.sqrt(((row / (1 + np.exp(-row))) ** 2).sum())
    ),
    "exponential": lambda row, n: np.exp(row) / n,
    "laplace": lambda row, n: np.array(
        [
            0.5 * (1 + math.erf((x - math.sqrt(0.5)) / math.sqrt(0.5 / math.pi)))
            for x in row
        ]
    ),
}
INSTANCES = {
    "squared_relu of 4": (
        SquaredReLU(length=4),
        lambda r, n: np.maximum(r, 0) ** 2 / 4,
    ),
    "exponential of 4": (Exponential(length=4), lambda r, n: np.exp(r) / 4),
    "logn beyond 4": (
        PredictionLogSoftmax(base_length=4),
        lambda r, n: exponential_share(r * max(1, math.log(n) / math.log(4))),
    ),
}
CASES = {**{name: (name, row) for name, row in ROWS.items()}, **INSTANCES}


@pytest.mark.parametrize("name", CASES)
def test_against_the_formula(name):
    normalizer, formula = CASES[name]
    core = DotProductAttention(normalizer, dtype="float32")
    output, weights = core(QUERY, KEY, VALUE, attention_mask=MASK, return_weights=True)
    logits = np.einsum("bnth,bnsh->bnts", QUERY.astype("float64"), KEY) / math.sqrt(H)
    expected = np.zeros(logits.shape)
    for b, h, t in np.ndindex(B, N, T):
        n = int(MASK[b].sum())
        expected[b, h, t, :n] = formula(logits[b, h, t, :n], n)
    np.testing.assert_allclose(to_numpy(weights), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_numpy(output), expected @ VALUE, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", CASES)
def test_empty_rows_and_extremes(name, policy):
    # exp(16 + ...) is more than float16 holds.
    largest = 1.0 if policy == "mixed_float16" else 8.0
    core = DotProductAttention(CASES[name][0], dtype=policy)
    mask = np.ones((B, 1, T, S), bool)
    mask[0] = False
    output = to_numpy(core(QUERY, KEY, VALUE, attention_mask=mask))
    assert np.all(output[0] == 0) and np.all(np.isfinite(output))

    def attend(query, key, value):
        return core(query, key, value, attention_mask=mask)

    for factor in (1.0, 0.0, largest):
        for slope in gradient(attend, QUERY * factor, KEY, VALUE):
            assert np.all(np.isfinite(slope)) and np.all(slope[0] == 0)
    _, huge = core(QUERY * 40, KEY * 40, VALUE, return_weights=True)
    assert np.all(np.isfinite(to_numpy(huge)))


@pytest.mark.parametrize("name", CASES)
def test_slopes_at_every_size_of_the_logits(name):
    """Finite, and of a bounded size near 0, also where nothing is positive."""
    normalizer = attention_normalizer.get(CASES[name][0])
    positive = np.random.default_rng(1).uniform(0.5, 1.0, S).astype("float32")
    mixed = positive * np.where(np.arange(S) % 2, -1, 1).astype("float32")
    sizes = np.float32([0.0, 1e-16, 1e-8, 1e-6, 1e-3, 1.0, 1e4])
    rows = np.stack([positive, mixed, -positive])
    logits = (sizes[:, None, None] * rows).reshape(1, 1, -1, S)

    def weigh(logits):
        return normalizer(logits, float(S))

    weights = to_numpy(weigh(ops.convert_to_tensor(logits)))
    slopes = gradient(weigh, logits)[0]
    assert np.all(np.isfinite(weights)) and np.all(np.isfinite(slopes))
    bounds = {"squared_relu_normalized": 2e6, "swish_l2": 1200}
    assert np.abs(slopes).max() < bounds.get(name, np.inf)
    if name == "squared_relu_normalized":
        assert np.all(weights[0, 0, 2::3] == 0)  # nothing positive


def test_what_is_added_to_the_sums_does_not_show():
    logits = RNG.normal(size=(1, 1, 64, S))
    tensor = ops.convert_to_tensor(logits.astype("float32"))
    given = to_numpy(attention_normalizer.get("swish_l2")(tensor, float(S)))
    swish = logits / (1 + np.exp(-logits))
    expected = swish / np.sqrt((swish**2).sum(-1, keepdims=True))
    np.testing.assert_allclose(given, expected, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_padding_changes_nothing_in_a_gated_attention_unit(name):
    layer = GatedAttentionUnit(
        16, 6, normalizer=CASES[name][0], rotary_embedding="rope"
    )
    x = RNG.normal(size=(B, S, 12)).astype("float32")
    real = MASK[:, 0, 0]
    expected = to_numpy(layer(x, padding_mask=real))
    other = np.where(real[..., None], x, 9.0).astype("float32")
    other = np.concatenate([other, np.ones((B, 6, 12), "float32")], axis=1)
    given = to_numpy(layer(other, padding_mask=np.pad(real, ((0, 0), (0, 6)))))
    np.testing.assert_allclose(given[:, :S][real], expected[real], rtol=1e-5, atol=1e-5)


def test_configs():
    for name, (normalizer, _) in CASES.items():
        one = attention_normalizer.get(normalizer)
        again = attention_normalizer.get(attention_normalizer.serialize(one))
        assert again == one, name


def test_equal_tokens_can_be_told_apart_by_rows_that_do_not_sum_to_one():
    """The probe of post 9105, before any training: are the outputs all the same?"""
    query = np.ones((1, 2, 6, H), "float32")

    def spread(**schemes):
        core = DotProductAttention(rotary_embedding="rope", **schemes)
        output = to_numpy(core(query, query, query))[0, 0, :, 0]
        return output.max() - output.min()

    assert spread(normalizer="softmax") < 1e-6
    assert spread(normalizer="squared_relu_normalized") < 1e-6
    for name in ("l2", "exponential", "squared_relu", "laplace", "swish_l2"):
        assert spread(normalizer=name) > 1e-3, name


def test_bad_arguments():
    with pytest.raises(ValueError, match="`base_length` must be above 1.*Received 1"):
        PredictionLogSoftmax(base_length=1)
    for make in (Exponential, SquaredReLU):
        with pytest.raises(ValueError, match="`length` must be positive.*Received 0"):
            make(length=0)
