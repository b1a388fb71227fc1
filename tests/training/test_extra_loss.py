"""How terms enter the training loss: compiled once, and no weight is left changed."""

import embedding_classifier as by_hand
import keras
import numpy as np
import pytest
from contract import to_numpy
from embedding_classifier import Classifier, batch, make, training_step, weights
from gradients import compiled
from keras import ops

from bert4keras3.models.gau_alpha import GAUAlphaBackbone
from bert4keras3.tasks.task import Task
from bert4keras3.training.adversarial import (
    FGM,
    PGD,
    GradientPenalty,
    VirtualAdversarial,
)
from bert4keras3.training.extra_loss import (
    TOKEN_EMBEDDINGS,
    ExtraLoss,
    ExtraLosses,
    TrainingStep,
)
from bert4keras3.training.r_drop import RDrop

pytestmark = pytest.mark.backend
XLA = keras.backend.backend() != "torch"
# But for FGM, which is a case of PGD: compiling them is what takes time.
ALL_TERMS = [
    PGD(epsilon=0.1, step_size=0.1, num_steps=1),
    VirtualAdversarial(epsilon=0.1),
    GradientPenalty(weight=0.1),
    RDrop(alpha=1.0),
]


class Constant(ExtraLoss):
    """Adds a number, whatever the step."""

    def __init__(self, value):
        self.value = value

    def __call__(self, step):
        return ops.ones(()) * self.value


@keras.saving.register_keras_serializable(package="tests")
class TokenSum(Task):
    """A task as small as can be: the first hidden state, a dense layer."""

    def __init__(self, backbone, preprocessor=None, **kwargs):
        super().__init__(backbone, preprocessor, **kwargs)
        self.dense = keras.layers.Dense(2, name="dense")
        self.dense.build((None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        return self.dense(self.hidden_states(inputs, training=training)[:, 0])


def task(dropout=0.1):
    backbone = GAUAlphaBackbone(11, 1, 8, 16, key_dim=4, dropout=dropout)
    return TokenSum(backbone)


def task_batch():
    token_ids = np.random.default_rng(0).integers(1, 11, (8, 5)).astype("int32")
    return {"token_ids": token_ids}, (token_ids[:, 0] % 2).astype("int32")


def states(model):
    """Of the random generators: pairs of a seed and a count."""
    weights = {id(v) for v in model.weights}
    return [to_numpy(v) for v in model.variables if id(v) not in weights]


# --- what is added, and when ------------------------------------------------------


def test_terms_are_summed_in_training_only():
    model, (x, y) = make(), batch()
    plain = by_hand.loss(weights(model), x, y)
    model.compile("sgd", by_hand.LOSS, extra_losses=[Constant(2.0), Constant(0.5)])
    assert model.train_on_batch(x, y) == pytest.approx(plain + 2.5, abs=1e-4)
    plain = by_hand.loss(weights(model), x, y)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain, abs=1e-4)
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    assert history["loss"][0] == pytest.approx(plain + 2.5, abs=1e-4)
    assert history["val_loss"][0] < plain


def test_real_terms_add_up():
    model, (x, y) = make(extra_losses=[FGM(0.5), GradientPenalty(2.0)]), batch()
    parameters = weights(model)
    gradient = by_hand.loss_gradients(parameters, x, y)[0]
    changed = by_hand.moved(parameters, 0.5 * by_hand.unit(gradient))
    losses = by_hand.loss(parameters, x, y), by_hand.loss(changed, x, y)
    expected = sum(losses) + 2.0 * (gradient**2).sum()
    assert model.train_on_batch(x, y) == pytest.approx(expected, abs=1e-4)


def test_compiling_again_drops_the_terms():
    model, (x, y) = make(extra_losses=[Constant(2.0)]), batch()
    plain = by_hand.loss(weights(model), x, y)
    model.compile("sgd", by_hand.LOSS)
    assert model.extra_losses == ()
    assert model.train_on_batch(x, y) == pytest.approx(plain, abs=1e-4)


def test_functional_models():
    class Model(ExtraLosses, keras.Model):
        pass

    inputs = keras.Input((3,))
    model = Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", extra_losses=[Constant(7.0)])
    assert model.train_on_batch(np.zeros((2, 3)), np.zeros((2, 1))) == 7.0


def test_a_loss_of_the_model_itself():
    """`ordinary_loss` is what the terms compute again, with changed weights."""

    class Model(Classifier):
        def ordinary_loss(self, x, y, y_pred, sample_weight=None, training=True):
            table = self.layers[0].embeddings
            return ops.sum(y_pred) * 0.0 + ops.sum(ops.convert_to_tensor(table))

    class Doubled(ExtraLoss):
        def __call__(self, step):
            table = step.variable(TOKEN_EMBEDDINGS)
            return step.forward([(table, 2.0 * table.value)])[0]

    table = keras.layers.Embedding(7, 3, name="token_embedding")
    model = Model([keras.Input((5,)), table, keras.layers.GlobalAveragePooling1D()])
    model.compile("sgd", extra_losses=[Doubled()])
    total = to_numpy(table.embeddings).sum()
    assert model.train_on_batch(*batch()) == pytest.approx(3 * total, abs=1e-4)


class Penalized(keras.layers.Layer):
    """Adds the sum of its inputs to the loss."""

    def call(self, x):
        self.add_loss(ops.sum(x))
        return x


def test_passes_collect_their_own_added_losses():
    class Change(ExtraLoss):
        def __call__(self, step):
            table = step.variable(TOKEN_EMBEDDINGS)
            same, _ = step.forward()
            none, _ = step.forward([(table, ops.zeros(table.shape))])
            return 100.0 * (same - step.loss) + none

    model, (x, y) = make(Penalized(), extra_losses=[Change()]), batch()
    parameters = weights(model)
    table, _, _ = parameters
    plain = by_hand.loss(parameters, x, y) + table[x].mean(1).sum()
    without = by_hand.loss(by_hand.moved(parameters, -table), x, y)
    assert model.train_on_batch(x, y) == pytest.approx(plain + without, abs=1e-3)


# --- what the passes leave behind -------------------------------------------------


def test_statistics_are_those_of_the_first_pass():
    x, y = batch()
    after = []
    for terms in ([], [RDrop()]):
        model = make(keras.layers.BatchNormalization(momentum=0.5))
        model.compile(keras.optimizers.SGD(0.0), by_hand.LOSS, extra_losses=terms)
        model.train_on_batch(x, y)
        after.append([to_numpy(v) for v in model.non_trainable_weights])
    assert len(after[0]) == 2
    for plain, given in zip(*after, strict=True):
        np.testing.assert_allclose(plain, given, atol=1e-6)


def test_every_pass_draws_other_dropout():
    model, (x, y) = make(keras.layers.Dropout(0.5, seed=1)), batch()
    seen = []
    for _ in range(2):
        step = training_step(model, x, y)
        table = step.variable(TOKEN_EMBEDDINGS)
        inside = []

        def loss(value, step=step, table=table, inside=inside):
            given, y_pred = step.forward([(table, value)])
            inside.append(y_pred)
            return given

        step.gradient(loss, table.value)
        predictions = [step.y_pred, step.forward()[1], step.forward()[1]]
        step.keep_random_state()
        seen += [to_numpy(p) for p in predictions]
        calm = [to_numpy(step.forward(training=False)[1]) for _ in range(2)]
        np.testing.assert_array_equal(*calm)
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert not np.allclose(one, other)


def test_compiled_steps_advance_the_random_state_by_their_passes():
    model, (x, y) = make(keras.layers.Dropout(0.5, seed=1)), batch()
    # With dropout: the plain pass, two and one; the virtual term has two without.
    model.compile("sgd", by_hand.LOSS, extra_losses=[FGM(), VirtualAdversarial()])
    (before,) = states(model)
    for _ in range(2):
        model.train_on_batch(x, y)
    (after,) = states(model)
    assert (after - before)[1] == 2 * 4


# --- compiled ---------------------------------------------------------------------


def test_terms_compile_once_and_leave_no_weight_changed():
    class Counted(keras.layers.Layer):
        traces = 0

        def call(self, x):
            Counted.traces += 1
            return x

    model, (x, y) = make(Counted(), keras.layers.Dropout(0.1, seed=1)), batch()
    optimizer = keras.optimizers.SGD(0.0)
    model.compile(optimizer, by_hand.LOSS, jit_compile=XLA, extra_losses=ALL_TERMS)
    before = weights(model)
    model.train_on_batch(x, y)
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)
    optimizer.learning_rate = 0.1
    traces = Counted.traces
    for _ in range(3):
        assert np.isfinite(model.train_on_batch(x, y))
    # The plain pass 1, PGD 2, virtual 3, penalty 1, R-Drop 1.
    assert Counted.traces == traces + (0 if XLA else 3 * 8)
    for old, new in zip(before, weights(model), strict=True):
        assert not np.allclose(old, new)


def test_a_task_learns_with_terms():
    model, (x, y) = task(), task_batch()
    terms = [FGM(epsilon=0.1)]
    model.compile(keras.optimizers.Adam(0.02), by_hand.LOSS, extra_losses=terms)
    history = model.fit(x, y, batch_size=8, epochs=5, verbose=0).history["loss"]
    assert np.all(np.isfinite(history)) and history[-1] < 0.9 * history[0]


def test_mixed_precision():
    """Loss scaling, where there is one, is applied to the sum."""
    x, y = batch()
    losses = []
    for dtype in ("float32", "mixed_float16", "mixed_bfloat16"):
        pooling = keras.layers.GlobalAveragePooling1D(dtype=dtype)
        table = keras.layers.Embedding(7, 3, name="token_embedding", dtype=dtype)
        dense = keras.layers.Dense(4, dtype=dtype)
        model = Classifier([keras.Input((5,)), table, pooling, dense])
        rng = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(rng.normal(size=weight.shape))
        model.dtype_policy = dtype
        model.compile(keras.optimizers.SGD(0.1), by_hand.LOSS, extra_losses=[FGM()])
        losses.append([model.train_on_batch(x, y) for _ in range(2)])
    full, *mixed = losses
    assert full[1] < full[0]
    for half in mixed:
        np.testing.assert_allclose(half, full, rtol=0.05)


# --- saving -----------------------------------------------------------------------


@pytest.mark.parametrize("terms", [[], [FGM(epsilon=0.3), RDrop(2.0)]])
def test_saved_models_keep_their_terms(tmp_path, terms):
    model, (x, _) = task(), task_batch()
    model.compile("adam", by_hand.LOSS, extra_losses=terms)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.compiled and len(again.extra_losses) == len(terms)
    for one, other in zip(terms, again.extra_losses, strict=True):
        assert type(one) is type(other) and one.get_config() == other.get_config()
    assert again.optimizer.built and again.loss.from_logits
    one, other = compiled(model)(x), compiled(again)(x)
    np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


def test_a_model_that_was_not_compiled_has_no_compile_config():
    assert task().get_compile_config() == {}


# --- gradients --------------------------------------------------------------------


def test_gradients_of_first_and_second_order():
    model, (x, y) = make(), batch()
    step = training_step(model, x, y)
    point = ops.convert_to_tensor(np.array([1.0, 2.0], "float32"))
    given = step.gradient(lambda p: ops.sum(p**3), point)
    np.testing.assert_allclose(to_numpy(given), [3.0, 12.0], rtol=1e-6)
    assert not to_numpy(step.gradient(lambda p: ops.sum(step.loss), point)).any()
    assert not to_numpy(step.gradient(lambda p: ops.ones(()), point)).any()
    half = ops.cast(point, "float16")
    given = step.gradient(lambda p: ops.sum(p**2), half)
    assert keras.backend.standardize_dtype(given.dtype) == "float32"
    outer = step.gradient(
        lambda p: ops.sum(step.gradient(lambda q: ops.sum(q**3), p, second_order=True)),
        point,
    )
    np.testing.assert_allclose(to_numpy(outer), [6.0, 12.0], rtol=1e-6)


# --- errors -----------------------------------------------------------------------


def test_a_variable_is_found_by_its_path():
    model = task()
    step = TrainingStep(model, None, None, None, None, None)
    table = model.backbone.token_embedding.embeddings
    assert step.variable(TOKEN_EMBEDDINGS) is table
    assert step.variable("*segment_embedding/*") is not table
    with pytest.raises(ValueError, match="No weight matches.*There are: .*dense/bias"):
        step.variable("word_embedding")
    with pytest.raises(ValueError, match="Several.*Found: segment.*, token_embedding"):
        step.variable("*_embedding/embeddings")


@pytest.mark.parametrize("wrong", [FGM, FGM(), [FGM], ["fgm"], "fgm", None])
def test_only_lists_of_terms_are_taken(wrong):
    with pytest.raises(ValueError, match="takes a list of ExtraLoss instances"):
        make(extra_losses=wrong)


def test_a_hidden_loss_is_refused():
    class Model(Classifier):
        def compute_loss(self, *args, **kwargs):
            return ops.zeros(())

    model = Model([keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Override `ordinary_loss` instead"):
        model.compile("sgd", "mse", extra_losses=[Constant(1.0)])


def test_a_term_without_a_call():
    model, (x, y) = make(extra_losses=[ExtraLoss()], run_eagerly=True), batch()
    with pytest.raises(NotImplementedError, match="ExtraLoss lacks `__call__"):
        model.train_on_batch(x, y)
