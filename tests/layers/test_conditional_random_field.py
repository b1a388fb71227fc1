"""CRF and MEMM: fixtures, brute force over all label sequences, masks, training."""

import functools
import itertools

import golden_layers
import keras
import numpy as np
import pytest
from contract import to_numpy
from gradients import compiled, gradient

from bert4keras3.layers.conditional_random_field import (
    ConditionalRandomField,
    MaximumEntropyMarkovModel,
)

RNG = np.random.default_rng(6)
B, T, L = 3, 4, 3
# Whole, with a hole, and starting late; rows without a token have a test of their own.
MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 1]])


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def run(function, *arguments):
    """The result as an array."""
    return to_numpy(compiled(function)(*arguments))


def crf_with(transitions, lr_multiplier=1.0, **kwargs):
    layer = ConditionalRandomField(lr_multiplier, **kwargs)
    layer.build((None, None, len(transitions)))
    layer.stored_transitions.assign(transitions / lr_multiplier)
    return layer


def mask_of(logits):
    """The original's mask: -inf in the logits."""
    return np.all(logits > -1e6, axis=-1)


# --- fixtures -------------------------------------------------------------------


@pytest.mark.parametrize("name", golden_layers.names("crf_"))
def test_golden_crf(name):
    stored = golden_layers.arrays(name)
    multiplier = golden_layers.index()[name]["ctor"]["lr_multiplier"]
    logits, labels, mask = (stored[k] for k in ("logits", "labels", "mask"))
    layer = ConditionalRandomField(lr_multiplier=multiplier)
    layer.build(logits.shape)
    layer.stored_transitions.assign(stored["w__trans_stored"])
    np.testing.assert_allclose(
        to_numpy(layer.transitions), stored["trans_effective"], rtol=1e-6
    )
    np.testing.assert_array_equal(mask_of(stored["call_output_masked"]), mask == 1)
    for tag, padding in [("masked", mask), ("nomask", None)]:
        given = run(layer.loss, labels, logits, padding)
        for kind in ("sparse", "dense"):
            wanted = stored[f"{kind}_loss_{tag}"]
            np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-5)
        accuracy = float(run(layer.accuracy, labels, logits, padding))
        assert abs(accuracy - stored[f"sparse_accuracy_{tag}"]) < 1e-6
    first = run(layer, logits[:, :4], labels[:, :4])
    np.testing.assert_allclose(first, stored["bruteforce_nll_first4"], rtol=1e-5)
    np.testing.assert_allclose(first, stored["dense_loss_first4"], rtol=1e-5)


@pytest.mark.parametrize("name", golden_layers.names("crf_"))
def test_golden_viterbi(name):
    stored = golden_layers.arrays(name)
    layer = crf_with(stored["trans_effective"])
    logits, mask = stored["logits"], stored["mask"]
    paths = [key for key in stored if key.startswith("viterbi_s")]
    assert paths

    def listed(text):
        return None if text == "None" else [int(i) for i in text.strip("[]").split(",")]

    decoded = {}
    for key in paths:
        starts, ends, row = key.removeprefix("viterbi_s").replace("_e", "_").split("_")
        if (starts, ends) not in decoded:
            between = {
                "start_labels": listed(starts),
                "end_labels": listed(ends),
            }
            decode = functools.partial(layer.decode, **between)
            decoded[starts, ends] = run(decode, logits, mask)
        given = decoded[starts, ends][int(row)]
        np.testing.assert_array_equal(given[: len(stored[key])], stored[key])
        assert np.all(given[len(stored[key]) :] == -1)


@pytest.mark.parametrize("name", golden_layers.names("memm_"))
def test_golden_memm(name):
    stored = golden_layers.arrays(name)
    logits, labels, mask = (stored[k] for k in ("logits", "labels", "mask"))
    layer = MaximumEntropyMarkovModel(golden_layers.index()[name]["ctor"]["hidden_dim"])
    layer.build(logits.shape)
    if layer.hidden_dim is None:
        layer.stored_transitions.assign(stored["w__trans"])
    else:
        layer.stored_left.assign(stored["w__l_trans"])
        layer.stored_right.assign(stored["w__r_trans"])
    # The original takes the mean over all tokens; ours is a sum for each row.
    given = run(layer, logits, labels, mask).sum() / mask.sum()
    np.testing.assert_allclose(given, stored["sparse_loss"], rtol=1e-5)
    tensors = map(keras.ops.convert_to_tensor, (labels, logits, mask.astype(bool)))
    forward = run(layer.directed_loss, *tensors)
    np.testing.assert_allclose(
        forward.sum() / mask.sum(), stored["forward_loss"], rtol=1e-5
    )
    accuracy = float(run(layer.accuracy, labels, logits, mask))
    assert abs(accuracy - stored["sparse_accuracy"]) < 1e-6


# --- brute force ----------------------------------------------------------------


def score(labels, logits, transitions):
    total = sum(logits[t, y] for t, y in enumerate(labels))
    return total + sum(transitions[i, j] for i, j in itertools.pairwise(labels))


def sequences(length):
    return list(itertools.product(range(L), repeat=length))


def test_loss_marginals_and_path_against_all_sequences():
    transitions, logits = 2 * normal(L, L), 2 * normal(B, T, L)
    labels = RNG.integers(0, L, (B, T)).astype("int32")
    layer = crf_with(transitions)
    losses = run(layer.loss, labels, logits, MASK)
    probabilities = run(layer.marginals, logits, MASK)
    paths = run(layer.decode, logits, MASK)
    decode = functools.partial(layer.decode, start_labels=[1], end_labels=[0, 2])
    bound = run(decode, logits, MASK)
    for row in range(B):
        seen = np.flatnonzero(MASK[row])
        tokens = logits[row, seen].astype("float64")
        every = sequences(len(seen))
        scores = np.array([score(y, tokens, transitions) for y in every])
        chances = np.exp(scores - scores.max())
        chances /= chances.sum()
        gold = every.index(tuple(labels[row, seen]))
        np.testing.assert_allclose(losses[row], -np.log(chances[gold]), rtol=1e-4)
        for place, t in enumerate(seen):
            for label in range(L):
                given = sum(
                    p for p, y in zip(chances, every, strict=True) if y[place] == label
                )
                assert abs(probabilities[row, t, label] - given) < 1e-5
        assert tuple(paths[row, seen]) == every[scores.argmax()]
        allowed = [
            s if y[0] == 1 and y[-1] in (0, 2) else -np.inf
            for s, y in zip(scores, every, strict=True)
        ]
        assert tuple(bound[row, seen]) == every[int(np.argmax(allowed))]
        hidden = MASK[row] == 0
        assert np.all(paths[row, hidden] == -1)
        assert np.all(probabilities[row, hidden] == 0)


@pytest.mark.parametrize("hidden_dim", [None, 2])
def test_memm_decodes_by_the_same_algorithm(hidden_dim):
    layer = MaximumEntropyMarkovModel(hidden_dim, lr_multiplier=3)
    layer.build((None, None, L))
    for weight in layer.weights:
        weight.assign(normal(*weight.shape))
    logits, transitions = normal(B, T, L), to_numpy(layer.transitions)
    paths = run(layer.decode, logits, MASK)
    for row in range(B):
        tokens = logits[row, MASK[row] == 1].astype("float64")
        best = max(sequences(len(tokens)), key=lambda y: score(y, tokens, transitions))
        assert tuple(paths[row, MASK[row] == 1]) == best


def test_memm_against_the_formula():
    logits = normal(B, T, L)
    labels = RNG.integers(0, L, (B, T)).astype("int32")
    layer = MaximumEntropyMarkovModel()
    layer.build(logits.shape)
    transitions = normal(L, L)
    layer.stored_transitions.assign(transitions)
    given = run(layer, logits, labels, MASK)

    def direction(tokens, y, transitions):
        total = 0.0
        for t in range(len(y)):
            own = tokens[t].astype("float64")
            if t > 0:
                own = (own + transitions[y[t - 1]]) / 2
            total += np.log(np.exp(own).sum()) - own[y[t]]
        return total

    for row in range(B):
        seen = np.flatnonzero(MASK[row])
        tokens, y = logits[row, seen], labels[row, seen]
        forward = direction(tokens, y, transitions)
        backward = direction(tokens[::-1], y[::-1], transitions.T)
        np.testing.assert_allclose(given[row], (forward + backward) / 2, rtol=1e-5)


# --- properties -----------------------------------------------------------------

LAYERS = [
    ConditionalRandomField,
    MaximumEntropyMarkovModel,
    lambda **kwargs: MaximumEntropyMarkovModel(2, **kwargs),
]


@pytest.mark.parametrize("make", LAYERS)
def test_padding_takes_no_part(make):
    layer = make(lr_multiplier=10)
    layer.build((None, None, L))
    logits = normal(2, 5, L)
    labels = np.array([[0, 2, 1, 1, 0], [2, 2, 0, -1, -1]], "int32")
    before = run(layer, logits, labels)
    assert np.all(before > 0)
    dirty = np.concatenate([logits, 1e6 * normal(2, 3, L)], axis=1)
    dirty[1, 3:] = -np.inf
    mask = np.arange(8) < np.array([[5], [3]])
    padded = np.pad(np.maximum(labels, 0), ((0, 0), (0, 3)))
    after = run(layer, dirty, padded, mask)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    paths = run(layer.decode, dirty, mask)
    np.testing.assert_array_equal(paths[:, :5], run(layer.decode, logits, mask[:, :5]))
    given = gradient(lambda x: layer(x, padded, padding_mask=mask), dirty)[0]
    assert np.all(given[0, 5:] == 0) and np.all(given[1, 3:] == 0)
    assert np.all(np.abs(given[0, :5]).max(-1) > 0)


@pytest.mark.parametrize("make", LAYERS)
def test_a_row_without_a_token(make):
    layer = make()
    layer.build((None, None, L))
    logits, labels = normal(2, 4, L), np.full((2, 4), -1, "int32")
    assert np.all(run(layer, logits, labels) == 0)
    nothing = np.zeros((2, 4))
    assert np.all(run(layer.decode, logits, nothing) == -1)
    assert np.all(gradient(lambda x: layer(x, labels), logits)[0] == 0)
    assert float(run(layer.accuracy, labels, logits)) == 0
    if isinstance(layer, ConditionalRandomField):
        assert np.all(run(layer.marginals, logits, nothing) == 0)


@pytest.mark.parametrize("size", [1e4, 6e4])
def test_extreme_logits_keep_their_digits(size):
    # The gold path is ahead by one nat at the last token and by `size` elsewhere.
    length = 64
    labels = RNG.integers(0, L, (1, length)).astype("int32")
    logits = size * np.eye(L, dtype="float32")[labels]
    logits[0, -1] = np.eye(L)[labels[0, -1]]
    layer = crf_with(np.zeros((L, L), "float32"))
    expected = np.log(1 + (L - 1) * np.exp(-1.0))
    half = logits.astype("float16")
    for given in (run(layer.loss, labels, logits), run(layer.loss, labels, half)):
        np.testing.assert_allclose(given, [expected], rtol=1e-5)
    slope = gradient(lambda x: layer.loss(labels, x), -logits)[0]
    assert np.all(np.isfinite(slope)) and np.abs(slope).max() <= 1.001


def test_gradient_of_the_loss_is_marginals_minus_labels():
    logits, labels = normal(B, T, L), RNG.integers(0, L, (B, T)).astype("int32")
    layer = crf_with(normal(L, L))
    given = gradient(lambda x: layer.loss(labels, x, MASK), logits)[0]
    expected = run(layer.marginals, logits, MASK) - (
        np.eye(L)[labels] * MASK[..., None]
    )
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_the_multiplier_speeds_up_the_transitions_alone():
    layer = ConditionalRandomField(lr_multiplier=100)
    layer.build((None, None, 8))
    start = to_numpy(layer.transitions)
    # Glorot for an (8, 8) matrix; the stored values are a hundredth of it.
    assert 0.2 < np.abs(start).max() <= np.sqrt(6 / 16)
    np.testing.assert_allclose(to_numpy(layer.stored_transitions) * 100, start)


@pytest.mark.parametrize(
    ("make", "policy"),
    [*((make, "float32") for make in LAYERS), (ConditionalRandomField, "bfloat16")],
)
def test_the_layer_ends_a_model_whose_loss_it_is(make, policy):
    """Trained as `compile(loss=layer.loss)`, under XLA where there is XLA."""
    labels = RNG.integers(0, L, (8, 6)).astype("int32")
    labels[3, 4:] = -1
    x = np.eye(L, dtype="float32")[np.maximum(labels, 0)] + normal(8, 6, L)
    inputs = keras.Input((6, L))
    layer = make(dtype=policy, lr_multiplier=3)
    hidden = keras.layers.Dense(L, dtype=policy)(inputs)
    model = keras.Model(inputs, layer(hidden))
    assert model.output.dtype == "float32"
    has_xla = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.SGD(0.2), layer.loss, jit_compile=has_xla)
    before = [to_numpy(v) for v in model.trainable_variables]
    history = [float(model.train_on_batch(x, labels)) for _ in range(8)]
    assert history[-1] < history[0] - 0.2
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(old, to_numpy(variable)), variable.path


def test_decoding_compiles():
    layer = crf_with(normal(L, L))
    logits = normal(2, 6, L)
    expected = to_numpy(layer.decode(logits, np.ones((2, 6))))
    backend = keras.backend.backend()

    def decode(logits):
        return layer.decode(logits), layer.marginals(logits)

    if backend == "tensorflow":
        import tensorflow as tf

        decode = tf.function(decode, jit_compile=True)
    elif backend == "jax":
        import jax

        decode = jax.jit(decode)
    paths, probabilities = decode(keras.ops.convert_to_tensor(logits))
    np.testing.assert_array_equal(to_numpy(paths), expected)
    np.testing.assert_allclose(to_numpy(probabilities).sum(-1), 1, atol=1e-5)


# --- bad input ------------------------------------------------------------------


def test_bad_arguments_are_refused():
    for make in LAYERS:
        with pytest.raises(ValueError, match="lr_multiplier"):
            make(lr_multiplier=0)
    layer = crf_with(normal(L, L))
    logits = normal(2, 4, L)
    with pytest.raises(
        ValueError, match=r"`labels` must be integers of shape \(B, T\)"
    ):
        layer.loss(np.eye(L)[np.zeros((2, 4), int)], logits)
    for bad in ([], [L], [-1, 0]):
        with pytest.raises(ValueError, match="`start_labels` must hold labels"):
            layer.decode(logits, start_labels=bad)
        with pytest.raises(ValueError, match="`end_labels` must hold labels"):
            layer.decode(logits, end_labels=bad)
