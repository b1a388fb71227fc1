"""Primer's convolution of the heads against the sum, and in attention."""

import attention_properties as properties
import numpy as np
import pytest
import reference
from contract import named_weights, randomize, to_numpy

from bert4keras3.layers import head_convolution
from bert4keras3.layers.head_convolution import HeadConvolution
from bert4keras3.layers.multi_head_attention import MultiHeadAttention

B, T, REAL = properties.B, properties.T, properties.REAL


def convolve(x, kernel, causal, real=None):
    """`(B, N, T, H)`, one place at a time."""
    x = np.asarray(x, "float64")
    if real is not None:
        x = x * real[:, None, :, None]
    width, length = len(kernel), x.shape[2]
    ahead = 0 if causal else width // 2
    y = np.zeros_like(x)
    for i in range(length):
        for step in range(width):
            j = i + ahead - step
            if 0 <= j < length:
                y[:, :, i] += kernel[step] * x[:, :, j]
    return y


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("width", "causal"), [(3, True), (3, False), (1, True), (4, True), (12, True)]
)
def test_against_the_sum(width, causal):
    x = normal(B, 2, T, 5)
    layer = HeadConvolution(width, causal)
    layer.build(x.shape)
    kernel = randomize(layer)["kernel"]
    assert kernel.shape == (width, 2, 5)
    given = to_numpy(layer(x, padding_mask=REAL))
    np.testing.assert_allclose(given, convolve(x, kernel, causal, REAL), atol=1e-5)
    given = to_numpy(layer(x))
    np.testing.assert_allclose(given, convolve(x, kernel, causal), atol=1e-5)


def test_start_of_primer():
    causal, centred = (head_convolution.get(name) for name in ("causal", "centred"))
    for layer, expected in ((causal, [3, 1, 1]), (centred, [1, 3, 1])):
        layer.build((None, 1, None, 1))
        start = to_numpy(layer.kernel)[:, 0, 0]
        np.testing.assert_allclose(start * 6, expected, atol=1e-6)


def random_attention(**options):
    layer = MultiHeadAttention(2, 4, key_dim=6, output_dim=12, **options)
    layer.build((None, None, 12))
    return layer, randomize(layer)


@pytest.mark.parametrize(("choice", "causal"), [(3, True), ("centred", False)])
def test_in_attention(choice, causal):
    layer, w = random_attention(head_convolution=choice)
    x = normal(B, T, 12)

    def heads(name):
        parts = np.split(reference.dense(x, w, f"{name}_dense"), 2, axis=-1)
        kernel = w[f"{name}_convolution/kernel"]
        return convolve(np.stack(parts, axis=1), kernel, causal, REAL)

    attended, _, _ = reference.attention(
        *(heads(name) for name in ("query", "key", "value")), REAL[:, None, None]
    )
    joined = np.concatenate([attended[:, 0], attended[:, 1]], axis=-1)
    expected = reference.dense(joined, w, "output_dense")
    given = to_numpy(layer(x, padding_mask=REAL))
    np.testing.assert_allclose(given[REAL], expected[REAL], atol=1e-5)


@pytest.mark.parametrize("choice", ["causal", "centred"])
def test_padding_reaches_no_token(choice):
    layer, _ = random_attention(head_convolution=choice)
    properties.check_padding_content(layer)
    properties.check_padded_length(layer)
    properties.check_empty_rows(layer)
    # On the left of a row too.
    x, left = normal(B, T, 12), REAL[:, ::-1]
    other = np.where(left[..., None], x, 9.0)
    given, expected = (to_numpy(layer(each, padding_mask=left)) for each in (x, other))
    np.testing.assert_allclose(given[left], expected[left], atol=1e-5)


def test_the_causal_one_never_sees_the_future():
    layer, _ = random_attention(head_convolution=3)
    properties.check_causal(layer)


def test_without_it_nothing_is_added():
    plain, _ = random_attention()
    with_it, _ = random_attention(head_convolution=3)
    extra = set(named_weights(with_it)) - set(named_weights(plain))
    names = ("query", "key", "value")
    assert extra == {f"{name}_convolution/kernel" for name in names}
    again = MultiHeadAttention.from_config(with_it.get_config())
    assert again.get_config() == with_it.get_config()
    assert again.head_convolution.width == 3


def test_refusals():
    with pytest.raises(ValueError, match="`width` must be at least 1"):
        HeadConvolution(0)
    with pytest.raises(ValueError, match="width=4, causal=False"):
        HeadConvolution(4, causal=False)
    with pytest.raises(ValueError, match="Did you mean 'centred'"):
        MultiHeadAttention(2, 4, head_convolution="centered")
