"""The pure functions, held against their formulas."""

import math

import numpy as np
import pytest
import reference
from contract import to_numpy
from keras import ops as keras_ops

from bert4keras3 import ops

RNG = np.random.default_rng(3)


def test_inverse_frequencies_are_the_powers_of_the_base():
    for dim, base in ((2, 10000.0), (6, 10000.0), (64, 500.0)):
        given = ops.inverse_frequencies(dim, base)
        expected = [base ** (-2 * i / dim) for i in range(dim // 2)]
        assert given.dtype == np.float64
        np.testing.assert_allclose(given, expected, rtol=1e-14)


@pytest.mark.parametrize("dim", [7, 1, 0, -2])
def test_inverse_frequencies_refuse_a_dimension_without_pairs(dim):
    with pytest.raises(ValueError, match=rf"even, positive.*dim={dim}[.]"):
        ops.inverse_frequencies(dim)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_angles_are_float32_for_any_positions(dtype):
    positions = np.array([0, 3, 4095], dtype)
    frequencies = ops.inverse_frequencies(8)
    angles = ops.rotation_angles(positions, frequencies)
    assert angles.dtype == ops.rotation_angles(np.zeros(1, "float32"), [1.0]).dtype
    expected = positions[:, None].astype("float64") * frequencies
    assert turned_by(angles, expected) < 1e-6


def turned_by(angles, expected):
    """The largest difference, whole turns left out."""
    turns = (to_numpy(angles).astype("float64") - expected) / (2 * np.pi)
    return 2 * np.pi * np.abs(turns - np.round(turns)).max()


def test_angles_of_fractional_and_negative_positions():
    positions = np.array([[-1.5, 0.25], [-4095.0, 4095.125]], "float32")
    for frequencies in ([1.0, 0.1], [0.3, 2.7, 9.0]):
        angles = ops.rotation_angles(positions, frequencies)
        expected = positions[..., None].astype("float64") * frequencies
        assert turned_by(angles, expected) < 2e-6
    near = ops.rotation_angles(np.array([-1.5, 0.25], "float32"), [1.0, 0.1])
    expected = [[-1.5, -0.15], [0.25, 0.025]]
    np.testing.assert_allclose(to_numpy(near), expected, rtol=1e-6)


@pytest.mark.parametrize("base", [10000.0, 500000.0, 100.0])
def test_angles_of_far_positions(base):
    """Float32 products would be off by 5e-4 at 16383, and by 0.03 at 2 ** 20."""
    positions = np.array([255, 256, 16000, 16383, 32767, 2**20 - 1])
    frequencies = base ** (-np.arange(64) / 64)
    angles = ops.rotation_angles(positions, frequencies)
    assert turned_by(angles, positions[:, None] * frequencies) < 2e-6
    vectors = to_numpy(ops.sinusoidal_embedding(positions, 128, base))
    exact = positions[:, None] * frequencies
    exact = np.stack([np.sin(exact), np.cos(exact)], axis=-1).reshape(-1, 128)
    np.testing.assert_allclose(vectors, exact, atol=2e-6)


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 6), (2, 3, 5, 8)])
def test_interleaved_rotation_is_the_papers(shape):
    x = RNG.normal(size=shape).astype("float32")
    positions = RNG.uniform(-50, 50, size=shape[-2]).astype("float32")
    angles = ops.rotation_angles(positions, ops.inverse_frequencies(shape[-1]))
    given = to_numpy(ops.rotate_interleaved(keras_ops.convert_to_tensor(x), angles))
    np.testing.assert_allclose(given, reference.rope(x, positions), atol=2e-5)


def test_half_split_is_interleaved_with_the_features_in_another_order():
    x = RNG.normal(size=(2, 5, 8)).astype("float32")
    angles = RNG.normal(size=(5, 4)).astype("float32")
    order = np.concatenate([np.arange(0, 8, 2), np.arange(1, 8, 2)])
    interleaved = to_numpy(
        ops.rotate_interleaved(keras_ops.convert_to_tensor(x), angles)
    )
    half_split = ops.rotate_half_split(
        keras_ops.convert_to_tensor(x[..., order]), angles
    )
    np.testing.assert_allclose(to_numpy(half_split), interleaved[..., order], atol=1e-6)
    unchanged_order = ops.rotate_half_split(keras_ops.convert_to_tensor(x), angles)
    assert np.abs(to_numpy(unchanged_order) - interleaved).max() > 0.1


@pytest.mark.parametrize("rotate", [ops.rotate_interleaved, ops.rotate_half_split])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rotation_keeps_the_dtype_and_rounds_only_once(rotate, dtype):
    x = keras_ops.cast(RNG.normal(size=(1, 64, 8)).astype("float32"), dtype)
    angles = ops.rotation_angles(np.arange(4032, 4096), ops.inverse_frequencies(8))
    given = rotate(x, angles)
    exact = to_numpy(rotate(keras_ops.cast(x, "float32"), angles))
    assert given.dtype == x.dtype
    # One rounding: half a unit in the last of 8 (bfloat16) or 11 bits.
    bound = {"bfloat16": 2**-8, "float16": 2**-11}[dtype]
    assert np.all(np.abs(to_numpy(given) - exact) <= bound * np.abs(exact) + 1e-7)


def test_length_scale_is_one_at_the_base_length_and_grows_beyond():
    n = np.array([1, 2, 15, 16, 17, 256, 512, 513, 4096])
    given = to_numpy(ops.log_length_scale(n))
    expected = [math.log(max(i, 16)) / math.log(512) for i in n]
    np.testing.assert_allclose(given, expected, rtol=1e-6)
    assert given[6] == 1.0
    assert given[7] > 1.0 and given[8] > given[7]
    assert given[0] == given[1] == given[3] < given[4]


def test_length_scale_without_a_floor():
    given = to_numpy(ops.log_length_scale(np.array([0, 1, 2]), 64, min_length=1))
    np.testing.assert_allclose(given, [0, 0, math.log(2) / math.log(64)], rtol=1e-6)


def test_length_scale_counts_beyond_what_bfloat16_can_count():
    scales = to_numpy(ops.log_length_scale(np.arange(4000, 4096)))
    assert np.all(np.diff(scales) > 0)


@pytest.mark.parametrize("padding_dtype", ["bool", "int32", "float32"])
@pytest.mark.parametrize("shape", [None, (3, 4), (2, 3, 4), (2, 5, 3, 4), (2, 1, 3, 4)])
def test_merged_mask_is_visible_where_both_say_so(shape, padding_dtype):
    padding = RNG.integers(0, 2, size=(2, 4))
    structure = None if shape is None else RNG.integers(0, 2, size=shape)
    merged = ops.merge_masks(padding.astype(padding_dtype), structure)
    merged = np.broadcast_to(to_numpy(merged), (2, 5, 3, 4))
    assert merged.dtype == bool
    for b, n, t, s in np.ndindex(merged.shape):
        allowed = True
        if shape is not None and len(shape) == 2:
            allowed = structure[t, s]
        elif shape is not None and len(shape) == 3:
            allowed = structure[b, t, s]
        elif shape is not None:
            allowed = structure[b, n % shape[1], t, s]
        assert merged[b, n, t, s] == bool(allowed and padding[b, s])


def test_merged_mask_of_structure_alone_and_of_nothing():
    structure = np.tril(np.ones((3, 3), bool))
    alone = to_numpy(ops.merge_masks(None, structure))
    np.testing.assert_array_equal(alone, structure[None, None])
    assert ops.merge_masks() is None


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3, 4, 4)])
def test_a_structural_mask_of_another_rank_is_refused(shape):
    with pytest.raises(ValueError) as error:
        ops.merge_masks(None, np.ones(shape, bool))
    assert "`attention_mask` must have shape (T, S), (B, T, S)" in str(error.value)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(4,), (2, 1, 4), (2, 1, 1, 4)])
def test_a_padding_mask_of_another_rank_is_refused(shape):
    with pytest.raises(ValueError) as error:
        ops.merge_masks(np.ones(shape, bool))
    assert "`padding_mask` must have shape (B, S)" in str(error.value)
    assert str(shape) in str(error.value)


def test_a_rank_three_tensor_gets_its_heads_after_the_batch():
    x = np.zeros((2, 3, 4))
    assert tuple(ops.with_head_axis(x, "x").shape) == (2, 1, 3, 4)
    assert tuple(ops.with_head_axis(x[0], "x").shape) == (1, 1, 3, 4)
    assert ops.with_head_axis(x[None], "x").shape == (1, 2, 3, 4)


def test_visible_keys_are_counted_row_by_row():
    mask = RNG.integers(0, 2, size=(2, 3, 4, 300)).astype(bool)
    given = to_numpy(ops.count_visible_keys(mask, 300))
    np.testing.assert_array_equal(given, mask.sum(-1, keepdims=True))
    assert float(ops.count_visible_keys(None, 4095)) == 4095.0


@pytest.mark.parametrize("zero_mean", [True, False])
@pytest.mark.parametrize("unit_variance", [True, False])
def test_standardize(zero_mean, unit_variance):
    x = RNG.normal(2.0, 3.0, size=(2, 5, 6)).astype("float32")
    given = ops.standardize(x, zero_mean, unit_variance, epsilon=0.1)
    expected = reference.standardize(x, zero_mean, unit_variance, epsilon=0.1)
    np.testing.assert_allclose(to_numpy(given), expected, atol=1e-5)


def test_standardize_computes_in_float32():
    # The squares leave the range of float16, the mean the precision of bfloat16.
    x = keras_ops.cast([[300.0, 301.0, 302.0, 303.0]], "float16")
    given = ops.standardize(x)
    expected = reference.standardize(np.array([[300.0, 301.0, 302.0, 303.0]]))
    np.testing.assert_allclose(to_numpy(given), expected, atol=1e-4)
