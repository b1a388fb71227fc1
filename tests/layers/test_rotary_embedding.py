"""Rotary positions: the paper's rotation, any length, any position, any precision."""

import golden_layers
import keras
import numpy as np
import pytest
import reference
from contract import to_numpy

from bert4keras3.layers import rotary_embedding
from bert4keras3.layers.rotary_embedding import ROTARY_EMBEDDINGS, RotaryEmbedding

RNG = np.random.default_rng(37)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def test_golden():
    stored = golden_layers.arrays("fn_rotary")
    golden_layers.check_positions_count_from_zero(stored["sinusoidal"])
    rope = RotaryEmbedding()
    flat = to_numpy(rope(stored["t3"]))
    np.testing.assert_allclose(flat, stored["out3"], atol=1e-5)
    # The original has (B, L, N, H), we (B, N, L, H).
    heads = to_numpy(rope(np.swapaxes(stored["t4"], 1, 2)))
    np.testing.assert_allclose(np.swapaxes(heads, 1, 2), stored["out4"], atol=1e-5)
    np.testing.assert_allclose(reference.rope(stored["t3"]), stored["out3"], atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 3, 5, 6)])
@pytest.mark.parametrize("kind", ["default", "shared", "by_row", "fractional"])
def test_against_the_papers_rotation(kind, shape):
    x = normal(*shape)
    positions = {
        "default": None,
        "shared": np.array([7, 0, 3, 3, 90]),
        "by_row": RNG.integers(0, 90, size=(2, 5)),
        "fractional": RNG.uniform(-9, 90, size=(2, 5)).astype("float32"),
    }[kind]
    for_reference = positions
    if positions is not None and positions.ndim == 2 and len(shape) == 4:
        for_reference = positions[:, None]
    given = to_numpy(RotaryEmbedding(max_wavelength=500.0)(x, positions))
    expected = reference.rope(x, for_reference, base=500.0)
    np.testing.assert_allclose(given, expected, atol=3e-5)


@pytest.mark.parametrize("length", [1, 16384])
def test_any_length(length):
    x = normal(1, length, 4)
    given = to_numpy(RotaryEmbedding()(x))
    expected = reference.rope(x)
    np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("interleaved", [True, False])
def test_far_scores_are_those_of_near_ones(interleaved):
    """At 16,383 as at 0: float32 products with the frequency would not be."""
    rng = np.random.default_rng(2)
    query, key = (rng.normal(size=(1, 1, n, 16)).astype("float32") for n in (4, 6))
    rope = RotaryEmbedding(interleaved=interleaved)
    at, keys_at = np.arange(4) + 16380, np.arange(6) + 16378
    near = to_numpy(rope.scores(query, key, at - 16378, keys_at - 16378))
    far = to_numpy(rope.scores(query, key, at, keys_at))
    np.testing.assert_allclose(far, near, atol=2e-5)


@pytest.mark.parametrize("interleaved", [True, False])
def test_scores_depend_on_differences_only(interleaved):
    query, key = normal(2, 3, 5, 8), normal(2, 3, 7, 8)
    rope = RotaryEmbedding(interleaved=interleaved)
    at, keys_at = np.arange(5) * 2, np.arange(7) * 3
    expected = to_numpy(rope.scores(query, key, at, keys_at))
    for shift in (3, 100, 1000):
        given = to_numpy(rope.scores(query, key, at + shift, keys_at + shift))
        np.testing.assert_allclose(given, expected, atol=1e-5 * max(1, shift / 10))
    moved = to_numpy(rope.scores(query, key, at + 1, keys_at))
    assert np.abs(moved - expected).max() > 0.1


def test_rotation_keeps_the_length_of_every_pair():
    x = normal(2, 9, 6)
    given = to_numpy(RotaryEmbedding()(x)).reshape(2, 9, 3, 2)
    before = x.reshape(2, 9, 3, 2)
    np.testing.assert_allclose(
        (given**2).sum(-1), (before**2).sum(-1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(given[:, 0], before[:, 0], atol=1e-7)


def test_half_split_pairs_feature_i_with_i_plus_half():
    x = normal(1, 4, 6)
    order = [0, 2, 4, 1, 3, 5]
    interleaved = to_numpy(RotaryEmbedding()(x))
    half_split = to_numpy(RotaryEmbedding(interleaved=False)(x[..., order]))
    np.testing.assert_allclose(half_split, interleaved[..., order], atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "mixed_float16"])
def test_position_4095_in_low_precision(policy):
    # A number is rounded when it comes in and when it goes out, positions never.
    bound = {"mixed_float16": 2**-10}.get(policy, 2**-7)
    x = np.tile(normal(1, 1, 8), (1, 4096, 1))
    given = to_numpy(RotaryEmbedding(dtype=policy)(x))
    expected = to_numpy(RotaryEmbedding(dtype="float32")(x))
    scale = np.abs(expected).max()
    assert np.abs(given - expected).max() <= bound * scale
    # Neighbours that have the same bfloat16 (or float16) number stay apart.
    for t in (257, 2049, 4094):
        moved = np.abs(given[0, t + 1] - given[0, t]).max()
        assert moved > 16 * bound * scale


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_float_positions_keep_their_precision_on_the_way_in(policy):
    x = np.tile(normal(1, 1, 8), (1, 3, 1))
    positions = np.array([[4094.0, 4094.5, 4095.0]], "float32")
    expected = to_numpy(RotaryEmbedding(dtype="float32")(x, positions))
    inputs = [keras.Input((3, 8)), keras.Input((3,), dtype="float32")]
    model = keras.Model(inputs, RotaryEmbedding(dtype=policy)(*inputs))
    for given in (
        RotaryEmbedding(dtype=policy)(x, positions),
        model([x, positions]),
    ):
        error = np.abs(to_numpy(given) - expected).max()
        assert error <= 2**-7 * np.abs(expected).max()


def test_scores_take_the_dtype_of_the_query():
    rope = RotaryEmbedding(dtype="float32")
    query = keras.ops.cast(normal(1, 1, 3, 4), "bfloat16")
    assert rope.scores(query, query).dtype == query.dtype


def test_there_is_no_weight_and_no_table():
    rope = RotaryEmbedding()
    rope(normal(1, 5, 4))
    assert not rope.weights
    longer = normal(1, 50, 4)
    np.testing.assert_allclose(
        to_numpy(rope(longer)), reference.rope(longer), atol=1e-4
    )


def test_two_bases_of_equal_width_do_not_share_anything():
    x = normal(1, 50, 8)
    one, other = RotaryEmbedding(), RotaryEmbedding(max_wavelength=100.0)
    for layer, base in ((one, 10000.0), (other, 100.0), (one, 10000.0)):
        expected = reference.rope(x, base=base)
        np.testing.assert_allclose(to_numpy(layer(x)), expected, atol=1e-4)


def test_a_variant_is_one_method():
    class Interpolated(RotaryEmbedding):
        def frequencies(self, dim):
            return super().frequencies(dim) / 4

    x = normal(1, 8, 4)
    given = to_numpy(Interpolated()(x))
    np.testing.assert_allclose(given, reference.rope(x, np.arange(8) / 4), atol=1e-5)


@pytest.mark.parametrize("dim", [1, 5])
@pytest.mark.parametrize("interleaved", [True, False])
def test_an_odd_dimension_is_refused(dim, interleaved):
    with pytest.raises(ValueError, match=f"even, positive.*dim={dim}"):
        RotaryEmbedding(interleaved=interleaved)(normal(1, 3, dim))


@pytest.mark.parametrize("base", [0, -10000.0])
def test_a_base_that_has_no_powers_is_refused(base):
    with pytest.raises(ValueError, match=f"`max_wavelength` must be positive.*{base}"):
        RotaryEmbedding(max_wavelength=base)


def test_names_configs_and_instances():
    assert "rope" in ROTARY_EMBEDDINGS
    for name, kind in ROTARY_EMBEDDINGS.items():
        instance = rotary_embedding.get(name)
        assert type(instance) is kind
        assert rotary_embedding.get(instance) is instance
    custom = RotaryEmbedding(500.0, interleaved=False)
    again = rotary_embedding.get(rotary_embedding.serialize(custom))
    assert (again.max_wavelength, again.interleaved) == (500.0, False)
    assert rotary_embedding.get(None) is rotary_embedding.serialize(None) is None
    with pytest.raises(ValueError, match="Did you mean 'rope'"):
        rotary_embedding.get("rop")
    for wrong in (3, True, keras.layers.Dense(2), RotaryEmbedding):
        with pytest.raises(TypeError, match="rotary embedding"):
            rotary_embedding.get(wrong)
