"""Global pointers: fixtures, formulas, excluded spans."""

import golden_layers
import keras
import numpy as np
import pytest
import reference
from contract import assign, named_weights, randomize, to_numpy
from gradients import gradient

from bert4keras3.layers.global_pointer import EfficientGlobalPointer, GlobalPointer
from bert4keras3.losses import multilabel_categorical_crossentropy

RNG = np.random.default_rng(4)
POINTERS = [GlobalPointer, EfficientGlobalPointer]


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def ours(case):
    """Our weights from the original's, whose starts and ends are interwoven."""
    head_dim, heads = case.ctor["head_size"], case.ctor["heads"]
    weights = {}
    for path, value in case.weights.items():
        layer, kind = path.split("/")
        outer = value.shape[:-1]
        if layer == "dense":
            split = value.reshape(*outer, heads, 2, head_dim)
            names = "start_dense", "end_dense"
            parts = [split[..., i, :].reshape(*outer, -1) for i in range(2)]
        elif layer == "p_dense":
            names = "start_dense", "end_dense"
            parts = [value[..., ::2], value[..., 1::2]]
        else:
            # Its input holds start and end feature by feature; ours one after another.
            if kind == "kernel":
                value = np.concatenate([value[::2], value[1::2]])
            names = "end_label_dense", "start_label_dense"
            parts = [value[..., ::2], value[..., 1::2]]
        weights |= {f"{n}/{kind}": p for n, p in zip(names, parts, strict=True)}
    return weights


@pytest.mark.parametrize("name", golden_layers.names("gp_", "egp_"))
def test_golden_pointer(name):
    case = golden_layers.read(name)
    pointer = GlobalPointer if name.startswith("gp_") else EfficientGlobalPointer
    layer = pointer(
        case.ctor["heads"],
        case.ctor["head_size"],
        rotary_embedding="rope" if case.ctor.get("RoPE", True) else None,
        exclude_reversed=case.ctor.get("tril_mask", True),
        use_bias=case.ctor.get("use_bias", True),
    )
    x = case.inputs["x"]
    layer.build(x.shape)
    assign(layer, ours(case))
    given = to_numpy(layer(x, padding_mask=case.masks.get("x")))
    expected = case.outputs[0]
    excluded = np.isneginf(expected)
    assert np.all(np.isfinite(expected[~excluded]))
    np.testing.assert_allclose(given[~excluded], expected[~excluded], atol=1e-4)
    assert np.all(given[excluded] <= -1e8) and np.all(np.isfinite(given))


def by_formula(layer, x, positions):
    """Logits span by span, in float64, before anything is excluded."""
    w = {k: to_numpy(v).astype("float64") for k, v in named_weights(layer).items()}
    batch, length, _ = x.shape
    labels, dim = layer.num_labels, layer.head_dim
    start, end = (reference.dense(x, w, f"{n}_dense") for n in ("start", "end"))
    logits = np.zeros((batch, labels, length, length))

    def turned(vectors):
        if layer.rotary_embedding is None:
            return vectors
        return reference.rope(vectors, positions)

    if isinstance(layer, EfficientGlobalPointer):
        joined = np.concatenate([start, end], -1)
        of_start = reference.dense(joined, w, "start_label_dense")
        of_end = reference.dense(joined, w, "end_label_dense")
        start, end = turned(start), turned(end)
        for b, a, s, e in np.ndindex(logits.shape):
            logits[b, a, s, e] = start[b, s] @ end[b, e] / np.sqrt(dim)
            logits[b, a, s, e] += (of_start[b, s, a] + of_end[b, e, a]) / 2
        return logits
    for a in range(labels):
        own = slice(a * dim, (a + 1) * dim)
        q, k = turned(start[..., own]), turned(end[..., own])
        for b, s, e in np.ndindex(batch, length, length):
            logits[b, a, s, e] = q[b, s] @ k[b, e] / np.sqrt(dim)
    return logits


@pytest.mark.parametrize("rotary", [None, "rope"])
@pytest.mark.parametrize("pointer", POINTERS)
def test_against_the_formulas(pointer, rotary):
    layer = pointer(3, 4, rotary_embedding=rotary)
    x = normal(2, 5, 7)
    positions = RNG.integers(0, 20, (2, 5))
    mask = np.array([[1] * 5, [1, 1, 0, 1, 0]])
    layer(x)
    randomize(layer)
    given = to_numpy(layer(x, mask, positions))
    expected = by_formula(layer, x, positions)
    for b, a, s, e in np.ndindex(given.shape):
        if s <= e and mask[b, s] and mask[b, e]:
            assert abs(given[b, a, s, e] - expected[b, a, s, e]) < 1e-4
        else:
            assert given[b, a, s, e] == -1e9


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("pointer", POINTERS)
def test_padding_changes_no_span_and_logits_are_float32(pointer, policy):
    layer = pointer(2, 8, dtype=policy)
    x = normal(2, 6, 12)
    mask = np.arange(6) < np.array([[6], [0]])
    layer(x)
    randomize(layer)
    before = layer(x, mask)
    assert keras.backend.standardize_dtype(before.dtype) == "float32"
    before = to_numpy(before)
    assert np.all(np.isfinite(before)) and np.all(before[1] == -1e9)
    longer = np.concatenate([x, 50 * normal(2, 3, 12)], axis=1)
    longer[1] = 77.0
    after = to_numpy(layer(longer, np.pad(mask, ((0, 0), (0, 3)))))
    np.testing.assert_allclose(after[0, :, :6, :6], before[0], atol=1e-5)


@pytest.mark.parametrize("pointer", POINTERS)
def test_scores_depend_on_distance_only(pointer):
    layer = pointer(2, 8)
    x = normal(1, 6, 12)
    layer(x)
    randomize(layer)
    shifted = to_numpy(layer(x, positions=np.arange(6) + 500))
    np.testing.assert_allclose(shifted, to_numpy(layer(x)), atol=1e-3)
    spread = to_numpy(layer(x, positions=np.arange(6) * 3))
    kept = spread > -1e8
    assert np.abs(spread - to_numpy(layer(x)))[kept].max() > 0.01


@pytest.mark.parametrize("pointer", POINTERS)
def test_loss_and_gradient_with_excluded_spans_are_finite(pointer):
    layer = pointer(2, 8, dtype="mixed_float16")
    x = normal(2, 6, 12)
    mask = np.arange(6) < np.array([[4], [0]])
    layer(x)
    labels = np.zeros((2, 2, 36), "float32")
    labels[0, 1, 1 * 6 + 3] = 1

    def loss(x):
        logits = keras.ops.reshape(layer(x, mask), (2, 2, 36))
        return multilabel_categorical_crossentropy(labels, logits)

    rows = to_numpy(loss(x))
    assert np.all(np.isfinite(rows)) and np.all(rows[0] > 0) and np.all(rows[1] == 0)
    given = gradient(loss, x)[0]
    assert np.all(np.isfinite(given)) and np.abs(given[0, :4]).max() > 0
    assert np.all(given[1] == 0)


def test_bad_arguments_are_refused():
    for pointer in POINTERS:
        with pytest.raises(ValueError, match="even"):
            pointer(2, 7)
        pointer(2, 7, rotary_embedding=None)
        with pytest.raises(ValueError, match="Did you mean 'rope'"):
            pointer(2, 8, rotary_embedding="rop")
