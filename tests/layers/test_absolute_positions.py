"""Absolute positions beyond the plain table: hierarchy, sines, fixtures of both."""

import golden_layers
import keras
import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.layers.position_embedding import (
    PositionEmbedding,
    SinusoidalPositionEmbedding,
)
from bert4keras3.ops import sinusoidal_embedding

RNG = np.random.default_rng(9)
# bert4keras's names of the merges -> ours.
MERGES = {"add": "add", "mul": "multiply", "concat": "concatenate", "zero": "replace"}


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def table_layer(rows, dim, alpha=None, **kwargs):
    layer = PositionEmbedding(rows, hierarchical_alpha=alpha, **kwargs)
    layer.build((None, None, dim))
    layer.embeddings.assign(normal(rows, dim))
    return layer


# --- fixtures -------------------------------------------------------------------


@pytest.mark.parametrize("name", golden_layers.names("posemb_"))
def test_golden_position_embedding(name):
    case = golden_layers.read(name)
    assert case.ctor["merge_mode"] == "add"
    alpha = case.ctor.get("hierarchical")
    alpha = 0.4 if alpha is True else alpha
    layer = PositionEmbedding(case.ctor["input_dim"], hierarchical_alpha=alpha)
    x = case.inputs["x"]
    layer.build(x.shape)
    layer.embeddings.assign(case.weights["embeddings"])
    given = to_numpy(layer(x, case.inputs.get("ids")))
    np.testing.assert_allclose(given, case.outputs[0], atol=1e-5)


@pytest.mark.parametrize("name", golden_layers.names("sinusoidal_"))
def test_golden_sinusoidal(name):
    case = golden_layers.read(name)
    merge = MERGES[case.ctor["merge_mode"]]
    layer = SinusoidalPositionEmbedding(merge, case.ctor["output_dim"])
    given = to_numpy(layer(case.inputs["x"], case.inputs.get("ids")))
    # The original gives one row where all rows are equal.
    expected = np.broadcast_to(case.outputs[0], given.shape)
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_golden_sinusoidal_function():
    stored = golden_layers.arrays("fn_sinusoidal_embeddings")
    results = [name for name in stored if name.startswith("emb_dim")]
    assert results
    for name in results:
        dim = int(name.removeprefix("emb_dim"))
        given = to_numpy(sinusoidal_embedding(stored["pos"], dim))
        np.testing.assert_allclose(given, stored[name], atol=1e-4)


def test_far_sinusoidal_positions():
    dim, positions = 16, np.array([16382.0, 16383.0, 16383.5])
    layer = SinusoidalPositionEmbedding("replace")
    given = to_numpy(layer(np.zeros((1, 3, dim), "float32"), positions))[0]
    angles = positions[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    expected = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(3, dim)
    np.testing.assert_allclose(given, expected, atol=2e-6)


# --- hierarchy ------------------------------------------------------------------


def test_hierarchy_against_the_formula():
    rows, dim, alpha = 4, 6, 0.3
    layer = table_layer(rows, dim, alpha)
    table = to_numpy(layer.embeddings).astype("float64")
    base = (table - alpha * table[0]) / (1 - alpha)
    x = normal(2, rows * rows, dim)
    given = to_numpy(layer(x)) - x
    for position in range(rows * rows):
        i, j = divmod(position, rows)
        expected = alpha * base[i] + (1 - alpha) * base[j]
        np.testing.assert_allclose(given[1, position], expected, atol=1e-5)
    # The first `rows` positions keep their vectors, and no two positions share one.
    np.testing.assert_allclose(given[0, :rows], table, atol=1e-5)
    distances = np.abs(given[0][:, None] - given[0][None]).max(-1)
    assert distances[~np.eye(rows * rows, dtype=bool)].min() > 1e-3


@pytest.mark.parametrize("alpha", [None, 0.4])
def test_positions_pick_rows(alpha):
    layer = table_layer(4, 6, alpha)
    reach = 4 if alpha is None else 16
    x = normal(2, reach, 6)
    whole = to_numpy(layer(np.zeros((1, reach, 6), "float32")))[0]
    for shape in [(reach,), (2, reach)]:
        positions = RNG.integers(0, reach, shape)
        for dtype in ("int32", "float32"):
            given = to_numpy(layer(x, positions.astype(dtype)))
            np.testing.assert_allclose(given, x + whole[positions], atol=1e-6)


def test_a_sequence_beyond_the_hierarchy_is_refused():
    with pytest.raises(ValueError, match="17 tokens .* table of 16"):
        table_layer(4, 6, 0.4)(normal(1, 17, 6))
    # Positions that repeat make any length possible.
    table_layer(4, 6)(normal(1, 5, 6), np.array([0, 1, 2, 3, 3]))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, -0.4, 2])
def test_a_useless_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="hierarchical_alpha"):
        PositionEmbedding(4, hierarchical_alpha=alpha)


# --- sines and cosines ----------------------------------------------------------


def test_sinusoidal_against_the_formula():
    dim, base = 6, 500.0
    x = normal(2, 3, dim)
    positions = np.array([[0, 1.5, 7], [4095, 2, 3]])
    layer = SinusoidalPositionEmbedding("replace", max_wavelength=base)
    given = to_numpy(layer(x, positions))
    for b, t, i in np.ndindex(2, 3, dim // 2):
        angle = positions[b, t] * base ** (-2 * i / dim)
        np.testing.assert_allclose(given[b, t, 2 * i], np.sin(angle), atol=1e-3)
        np.testing.assert_allclose(given[b, t, 2 * i + 1], np.cos(angle), atol=1e-3)


def test_positions_are_never_in_the_compute_dtype():
    # 4094.0 and 4095.0 are one bfloat16 number.
    x = np.zeros((1, 2, 8), "float32")
    positions = np.array([4094.0, 4095.0], "float32")
    exact = to_numpy(SinusoidalPositionEmbedding()(x, positions))
    half = to_numpy(SinusoidalPositionEmbedding(dtype="mixed_bfloat16")(x, positions))
    np.testing.assert_allclose(half, exact, atol=2**-8)
    assert np.abs(half[0, 0] - half[0, 1]).max() > 0.1


@pytest.mark.parametrize("merge", sorted(MERGES.values()))
def test_a_model_sees_the_shape_that_a_call_gives(merge):
    layer = SinusoidalPositionEmbedding(merge)
    inputs = keras.Input((None, 8))
    model = keras.Model(inputs, layer(inputs))
    width = 16 if merge == "concatenate" else 8
    for length in (1, 600):
        assert tuple(model(normal(2, length, 8)).shape) == (2, length, width)
    assert model.output_shape == (None, None, width)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'multiply'"):
        SinusoidalPositionEmbedding("multiplied")
    with pytest.raises(ValueError, match="even"):
        SinusoidalPositionEmbedding()(normal(1, 3, 7))
    with pytest.raises(ValueError, match="merge='concatenate'"):
        SinusoidalPositionEmbedding("add", embedding_dim=4)(normal(1, 3, 8))
