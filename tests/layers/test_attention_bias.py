"""Positions added to the logits: fixtures, formulas, wiring into every attention."""

import math

import golden_layers
import keras
import numpy as np
import pytest
import reference
from contract import assign, named_weights, randomize, to_numpy

from bert4keras3.layers import attention_bias
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_bias import (
    NezhaBias,
    PositionBias,
    ShawBias,
    T5Bias,
    t5_buckets,
)
from bert4keras3.layers.gated_attention_unit import (
    CrossGatedAttentionUnit,
    GatedAttentionUnit,
)
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.transformer_layer import TransformerLayer

RNG = np.random.default_rng(3)
B, N, T, S, H, E = 2, 3, 5, 7, 4, 6


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def core_inputs():
    return normal(B, N, T, H), normal(B, N, S, H), normal(B, N, S, E)


# --- fixtures -------------------------------------------------------------------


@pytest.mark.parametrize("name", golden_layers.names("t5_position_ids"))
def test_golden_t5_buckets(name):
    ctor, stored = golden_layers.index()[name]["ctor"], golden_layers.arrays(name)
    bias = T5Bias(ctor["input_dim"], ctor["max_distance"], ctor["bidirectional"])
    given = to_numpy(bias.buckets(*stored["ids"].shape))
    np.testing.assert_array_equal(given, stored["ids"])


@pytest.mark.parametrize("name", golden_layers.names("relative_position"))
def test_golden_relative_vectors(name):
    stored = golden_layers.arrays(name)
    table = stored["w__embeddings"]
    shaw = ShawBias(len(table) // 2, share_table=True)
    shaw.build((None, None, None, table.shape[1]))
    shaw.key_embeddings.assign(table)
    given = shaw.vectors(
        shaw.key_table(None), int(stored["q_len"]), int(stored["v_len"])
    )
    np.testing.assert_allclose(to_numpy(given), stored["out"], atol=1e-6)


def nezha_fixtures():
    names = golden_layers.names("relative_position")
    index = golden_layers.index()
    return [name for name in names if "Sinusoidal" in (index[name]["note"] or "")]


@pytest.mark.parametrize("name", nezha_fixtures())
def test_golden_nezha_table(name):
    table = golden_layers.arrays(name)["w__embeddings"]
    given = to_numpy(NezhaBias(len(table) // 2).key_table(table.shape[1]))
    # The fixture was made with angles in float32 and is itself off by 1.6e-6.
    np.testing.assert_allclose(given, table, atol=2e-6)


def test_there_is_a_nezha_fixture():
    assert nezha_fixtures()


def bias_of(case):
    """Our position bias for the positions that a golden attention was given."""
    positions = case.inputs["pos"]
    length = positions.shape[0]
    if case.options["p_bias"] == "t5_relative":
        for name in golden_layers.names("t5_position_ids"):
            ctor, stored = (
                golden_layers.index()[name]["ctor"],
                golden_layers.arrays(name),
            )
            table = stored["w__embeddings"]
            if np.array_equal(table[stored["ids"][:length, :length]], positions):
                sizes = ctor["input_dim"], ctor["max_distance"], ctor["bidirectional"]
                return T5Bias(*sizes, name="position_bias"), "embeddings", table
    for name in golden_layers.names("relative_position"):
        stored = golden_layers.arrays(name)
        if np.array_equal(stored["out"], positions):
            table = stored["w__embeddings"]
            bias = ShawBias(len(table) // 2, share_table=True, name="position_bias")
            return bias, "key_embeddings", table
    raise AssertionError(f"{case.name}: no stored table gives these positions")


@pytest.mark.parametrize("name", golden_layers.names("mha_t5", "mha_typical"))
def test_golden_attention_with_a_position_bias(name):
    case = golden_layers.read(name)
    ctor = case.ctor
    bias, weight, table = bias_of(case)
    layer = MultiHeadAttention(
        ctor["heads"],
        ctor["head_size"],
        key_dim=ctor["key_size"],
        output_dim=ctor["out_dim"],
        use_bias=ctor.get("use_bias", True),
        use_scale=ctor.get("attention_scale", True),
        position_bias=bias,
    )
    query, key, value = (case.inputs[k] for k in "qkv")
    layer.build(query.shape, key.shape, value.shape)
    dense = {"q_dense": "query_dense", "k_dense": "key_dense"}
    dense |= {"v_dense": "value_dense", "o_dense": "output_dense"}
    weights = golden_layers.renamed(case.weights, dense)
    assign(layer, {**weights, f"attention/position_bias/{weight}": table})
    given = layer(
        query,
        key,
        value,
        padding_mask=case.masks["v"],
        attention_mask=case.inputs.get("a_bias"),
    )
    np.testing.assert_allclose(to_numpy(given), case.outputs[0], atol=1e-4)


# --- formulas -------------------------------------------------------------------


def bucket(offset, num_buckets, max_distance, bidirectional):
    """T5's bucket of one offset `key - query`, as the paper's code defines it."""
    start = 0
    distance = -offset
    if bidirectional:
        num_buckets //= 2
        if offset > 0:
            start = num_buckets
        distance = abs(offset)
    distance = max(distance, 0)
    exact = num_buckets // 2
    if distance < exact:
        return start + distance
    fraction = math.log(distance / exact) / math.log(max_distance / exact)
    return start + min(
        exact + math.floor(fraction * (num_buckets - exact) + 1e-9), num_buckets - 1
    )


@pytest.mark.parametrize("sizes", [(32, 128), (8, 20), (6, 11), (64, 1000), (4, 3)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_buckets_against_the_formula(sizes, bidirectional):
    num_buckets, max_distance = sizes
    given = t5_buckets(num_buckets, max_distance, bidirectional)
    expected = [
        bucket(offset, num_buckets, max_distance, bidirectional)
        for offset in range(-max_distance, max_distance + 1)
    ]
    np.testing.assert_array_equal(given, expected)
    far = bucket(-3 * max_distance, num_buckets, max_distance, bidirectional)
    assert given[0] == far == (num_buckets // (1 + bidirectional)) - 1


def over_batch(positions, length):
    if positions is None:
        positions = np.arange(length)
    return np.broadcast_to(positions, (B, length))


def relative_attention(query, key, value, key_table, value_table, offset_of, bias):
    """Shaw's attention and T5's, one query at a time, in float64."""
    output = np.zeros((B, N, T, E))
    for b, n, i in np.ndindex(B, N, T):
        logits = np.zeros(S)
        for j in range(S):
            k = key[b, n, j].astype("float64")
            if key_table is not None:
                k = k + key_table[offset_of(b, i, j)]
            logits[j] = query[b, n, i] @ k / math.sqrt(H)
            if bias is not None:
                logits[j] += bias(b, n, i, j)
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        for j in range(S):
            v = value[b, n, j].astype("float64")
            if value_table is not None:
                v = v + value_table[offset_of(b, i, j)]
            output[b, n, i] += weights[j] * v
    return output


POSITIONS = {
    "default": (None, None),
    "shared": (np.array([3, 0, 9, 4, 40]), np.array([7, 1, 0, 30, 2, 2, 5])),
    "per row": (RNG.integers(0, 12, (B, T)), RNG.integers(0, 12, (B, S))),
}


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", ["t5", "t5_causal", "shaw", "shaw shared", "nezha"])
def test_against_the_formulas(kind, positions):
    query_positions, key_positions = POSITIONS[positions]
    query, key, value = core_inputs()
    limit = 6
    made = {
        "t5": lambda: T5Bias(8, limit),
        "t5_causal": lambda: T5Bias(8, limit, bidirectional=False),
        "shaw": lambda: ShawBias(limit),
        "shaw shared": lambda: ShawBias(limit, share_table=True),
        "nezha": lambda: NezhaBias(limit),
    }[kind]()
    if kind == "shaw shared":
        value = value[..., :H]
        value = np.concatenate([value, np.zeros((B, N, S, E - H), "float32")], -1)
        value, cut = value[..., :H], H
    else:
        cut = E
    core = DotProductAttention(position_bias=made)
    arguments = {"query_positions": query_positions, "key_positions": key_positions}
    core(query, key, value, **arguments)
    randomize(core)
    given = to_numpy(core(query, key, value, **arguments))

    q_at, k_at = over_batch(query_positions, T), over_batch(key_positions, S)
    tables, bias = (None, None), None
    if kind.startswith("t5"):
        table = to_numpy(made.embeddings)

        def bias(b, n, i, j):
            offset = int(k_at[b, j] - q_at[b, i])
            return table[bucket(offset, 8, limit, kind == "t5"), n]
    elif kind == "nezha":
        tables = []
        for dim in (H, E):
            at = np.arange(2 * limit + 1)[:, None] * 10000.0 ** (
                -np.arange(0, dim, 2) / dim
            )
            tables.append(np.stack([np.sin(at), np.cos(at)], -1).reshape(-1, dim))
    elif kind == "shaw":
        tables = [to_numpy(made.key_embeddings), to_numpy(made.value_embeddings)]
    else:
        table = to_numpy(made.key_embeddings)
        tables = [table, np.pad(table, ((0, 0), (0, E - H)))]
        value = np.pad(value, ((0, 0),) * 3 + ((0, E - H),))

    def offset_of(b, i, j):
        return int(np.clip(k_at[b, j] - q_at[b, i], -limit, limit)) + limit

    expected = relative_attention(query, key, value, *tables, offset_of, bias)
    np.testing.assert_allclose(given, expected[..., :cut], atol=1e-5)


# --- properties -----------------------------------------------------------------

NAMES = sorted(attention_bias.POSITION_BIASES)
# What moving a token changes at least, where that is less than 1e-3: these add little
# to the logits of so few features. Rounding changes less than 1e-6.
LEAST_CHANGE = {"kerple_log_3": 3e-4, "kerple_power": 3e-4, "sandwich": 5e-5}
WIDTH = 12


def attention_layers(position_bias, **kwargs):
    return {
        "multi-head": MultiHeadAttention(3, 4, position_bias=position_bias, **kwargs),
        "gau": GatedAttentionUnit(8, key_dim=4, position_bias=position_bias, **kwargs),
        "cross gau": CrossGatedAttentionUnit(
            8, key_dim=4, position_bias=position_bias, **kwargs
        ),
        "transformer": TransformerLayer(3, 16, position_bias=position_bias, **kwargs),
    }


def run(layer, x, mask, positions=None):
    if isinstance(layer, TransformerLayer):
        mask = mask[:, None, None, :].astype(bool)
        return to_numpy(layer(x, attention_mask=mask, positions=positions))
    if isinstance(layer, GatedAttentionUnit):
        return to_numpy(layer(x, padding_mask=mask, positions=positions))
    arguments = {"query_positions": positions, "key_positions": positions}
    return to_numpy(layer(x, x, padding_mask=mask, **arguments))


# The layers around one core need one scheme each; the schemes, two layers each.
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in NAMES for kind in ("multi-head", "gau")]
    + [("shaw", "cross gau"), ("t5", "transformer")],
)
def test_every_scheme_in_every_attention(name, kind):
    layer = attention_layers(name)[kind]
    x = normal(2, 9, WIDTH)
    mask = np.arange(9) < np.array([[9], [6]])
    run(layer, x, mask)
    values = randomize(layer)
    before = run(layer, x, mask)

    # Order matters now, which it does not without positions.
    order = np.array([2, 0, 1, 3, 4, 5, 6, 7, 8])
    shuffled = run(layer, x[:, order], mask)[:, np.argsort(order)]
    assert np.abs(shuffled - before).max() > LEAST_CHANGE.get(name, 1e-3)

    # Relative: a shift of all positions changes nothing.
    shifted = run(layer, x, mask, np.arange(9) + 1000)
    np.testing.assert_allclose(shifted, before, atol=1e-5)

    # Neither what lies under the padding nor its length touches a token.
    longer = np.concatenate([x, 100 * normal(2, 4, WIDTH)], axis=1)
    longer[1, 6:] = 77.0
    after = run(layer, longer, np.pad(mask, ((0, 0), (0, 4))))
    np.testing.assert_allclose(after[0, :9], before[0], atol=1e-5)
    np.testing.assert_allclose(after[1, :6], before[1, :6], atol=1e-5)

    # A row of padding stays finite, in half precision too.
    none = np.zeros((2, 9), bool)
    assert np.all(np.isfinite(run(layer, x, none)))
    half = attention_layers(name, dtype="mixed_float16")[kind]
    run(half, x, mask)
    assign(half, values)
    assert np.all(np.isfinite(run(half, x, none)))
    np.testing.assert_allclose(
        run(half, x, mask), before, atol=0.02 * abs(before).max()
    )


@pytest.mark.parametrize("name", NAMES)
def test_far_positions_in_bfloat16_follow_float32(name):
    length, near = 40, np.arange(40) + 4056
    x, mask = normal(1, length, WIDTH), np.ones((1, length), bool)
    exact = MultiHeadAttention(3, 4, position_bias=name)
    half = MultiHeadAttention(3, 4, position_bias=name, dtype="mixed_bfloat16")
    run(exact, x, mask), run(half, x, mask)
    assign(half, randomize(exact))
    expected = run(exact, x, mask, near)
    given = run(half, x, mask, near.astype("float32"))
    assert np.abs(given - expected).max() < 2**-4 * np.abs(expected).max()


def test_paths_of_other_weights_do_not_change():
    with_bias, without = attention_layers("t5"), attention_layers(None)
    x, mask = normal(2, 5, WIDTH), np.ones((2, 5), bool)
    for kind in with_bias:
        run(with_bias[kind], x, mask), run(without[kind], x, mask)
        extra = set(named_weights(with_bias[kind])) - set(named_weights(without[kind]))
        assert set(named_weights(without[kind])) < set(named_weights(with_bias[kind]))
        assert len(extra) == 1
        assert extra.pop().endswith("attention/position_bias/embeddings")


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_of_a_transformer_layer(name, tmp_path):
    inputs = keras.Input((6, WIDTH))
    layer = TransformerLayer(3, 16, position_bias=name)
    model = keras.Model(inputs, layer(inputs))
    randomize(layer)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = normal(2, 6, WIDTH)
    np.testing.assert_array_equal(to_numpy(model(x)), to_numpy(again(x)))
    assert [v.path for v in again.weights] == [v.path for v in model.weights]


@pytest.mark.parametrize("name", NAMES)
def test_a_call_gives_the_bias(name):
    query, key, value = core_inputs()
    bias = attention_bias.get(name)
    given = to_numpy(bias(query, value))
    core = DotProductAttention(use_scale=False, position_bias=bias)
    _, logits = core(query, key, value, return_logits=True)
    products = query @ np.swapaxes(key, -1, -2)
    np.testing.assert_allclose(
        np.broadcast_to(given, products.shape), to_numpy(logits) - products, atol=1e-5
    )


def test_one_instance_can_serve_many_layers():
    shared = T5Bias(name="position_bias")
    layers = [MultiHeadAttention(3, 4, position_bias=shared) for _ in range(2)]
    x = normal(2, 5, WIDTH)
    outputs = [to_numpy(layer(x)) for layer in layers]
    assert len({id(layer.attention.position_bias.embeddings) for layer in layers}) == 1
    shared.embeddings.assign(np.eye(32, 3))
    for layer, before in zip(layers, outputs, strict=True):
        assert np.abs(to_numpy(layer(x)) - before).max() > 1e-4


def test_a_new_scheme_is_one_class():
    class Nearest(PositionBias):
        def bias(self, query, key_length, query_positions=None, key_positions=None):
            rows = keras.ops.arange(query.shape[-2])[:, None]
            columns = keras.ops.arange(key_length)[None]
            return -1e4 * keras.ops.cast(keras.ops.abs(rows - columns), "float32")

    query, key, value = core_inputs()
    given = DotProductAttention(position_bias=Nearest())(query, key, value)
    np.testing.assert_allclose(to_numpy(given), value[:, :, :T], atol=1e-5)
    x = normal(1, 5, 8)
    mha = MultiHeadAttention(2, 4, position_bias=Nearest())
    given = to_numpy(mha(x))
    w = {k: to_numpy(v) for k, v in named_weights(mha).items()}
    values = reference.dense(x, w, "value_dense")
    np.testing.assert_allclose(
        given, reference.dense(values, w, "output_dense"), atol=1e-5
    )


def test_it_compiles_and_trains_at_a_static_length():
    x, y = normal(4, 8, WIDTH), normal(4, 8, WIDTH)
    compiled = keras.backend.backend() != "torch"
    for name in ("t5", "shaw"):
        inputs = keras.Input((8, WIDTH))
        layer = MultiHeadAttention(3, 4, position_bias=name)
        model = keras.Model(inputs, layer(inputs))
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=compiled)
        before = [to_numpy(v) for v in model.trainable_variables]
        assert np.isfinite(model.train_on_batch(x, y))
        for old, variable in zip(before, model.trainable_variables, strict=True):
            # A key bias adds the same to every logit of a row; softmax ignores that,
            # unless the vectors of the positions tell the keys apart.
            if not variable.path.endswith("key_dense/bias"):
                assert not np.array_equal(old, to_numpy(variable)), variable.path


# --- bad input ------------------------------------------------------------------


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'shaw'"):
        DotProductAttention(position_bias="shaww")
    with pytest.raises(TypeError, match="position bias"):
        MultiHeadAttention(2, 4, position_bias=3)
    for arguments in [(7,), (2,), (32, 8), (0,)]:
        with pytest.raises(ValueError, match="num_buckets"):
            T5Bias(*arguments)
    with pytest.raises(ValueError, match="max_distance"):
        ShawBias(0)
    query, key, value = core_inputs()
    core = DotProductAttention(position_bias=ShawBias(share_table=True))
    with pytest.raises(ValueError, match="share_table=False"):
        core(query, key, value)
