"""Several tasks on one backbone: gradients against each alone, mixing, saving."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from gradients import compiled
from keras import ops
from small_tasks import CHARACTERS, EXAMPLES, QUICK_JIT, TEXTS, backbone, tokenizer

from bert4keras3 import tasks
from bert4keras3.tasks.multi_task import MultiTask
from bert4keras3.training.checkpoints import Checkpoints
from bert4keras3.training.gradients import value_and_gradients
from bert4keras3.training.pretraining import pretrain

NAMES = ["text_classifier", "token_classifier"]


def several(names=NAMES, length=12, **arguments):
    """A `MultiTask` of the examples, on one backbone."""
    words = tokenizer(CHARACTERS)
    body = backbone(words.vocabulary_size, **arguments)
    made = {}
    for name in names:
        example, task_class = EXAMPLES[name], tasks.get(name)
        preprocessor = task_class.preprocessor_class(
            words, length, **example.preprocessing
        )
        made[name] = task_class(body, preprocessor, **example.arguments)
    return MultiTask(made)


def sets_of(model):
    return {name: (EXAMPLES[name].x, EXAMPLES[name].y) for name in model.tasks}


def losses_of(names):
    return {n: EXAMPLES[n].loss for n in names if EXAMPLES[n].loss != "auto"}


def first_batch(model, **arguments):
    batch = next(iter(model.dataset(sets_of(model), **arguments)))
    return keras.tree.map_structure(lambda tensor: tensor.numpy(), batch)


def gradients_alone(model, name, batch):
    """Gradients of one task's loss, by every trainable variable of the model."""
    x, y, _ = batch
    variables = model.trainable_variables
    loss = model.tasks[name].default_loss()

    def value(tensors):
        with keras.StatelessScope(list(zip(variables, tensors, strict=True))):
            found = ops.mean(loss(y[name], model.tasks[name](x[name])))
        return found, None

    gradients = compiled(lambda *tensors: value_and_gradients(value, tensors)[2])
    return [to_numpy(each) for each in gradients(*[v.value for v in variables])]


def step_of_sgd(model, batch, **arguments):
    """How far a step with rate 1 goes against the gradient, for every variable."""
    model.compile(keras.optimizers.SGD(1.0), jit_compile=QUICK_JIT, **arguments)
    before = [to_numpy(v) for v in model.trainable_variables]
    model.train_on_batch(*batch)
    return [
        was - to_numpy(v)
        for was, v in zip(before, model.trainable_variables, strict=True)
    ]


@pytest.mark.parametrize("normalize", [True, False])
def test_a_step_goes_along_the_sum_of_equally_long_gradients(normalize):
    model = several()
    batch = first_batch(model, batch_size=6)
    shared = {id(v) for v in model.backbone.trainable_variables}
    factors = {"text_classifier": 2.0, "token_classifier": 0.5}
    expected = [0.0] * len(model.trainable_variables)
    lengths = {}
    for name, factor in factors.items():
        found = gradients_alone(model, name, batch)
        pairs = list(zip(model.trainable_variables, found, strict=True))
        norm = np.sqrt(
            sum(np.sum(g.astype("float64") ** 2) for v, g in pairs if id(v) in shared)
        )
        lengths[name] = norm
        scale = factor / norm if normalize else factor
        expected = [e + scale * g for e, g in zip(expected, found, strict=True)]
    # Else nothing would be told from its normalized form.
    assert abs(lengths["text_classifier"] / lengths["token_classifier"] - 1) > 0.1
    given = step_of_sgd(
        model, batch, task_weights=factors, normalize_gradients=normalize
    )
    assert any(np.abs(each).max() > 1e-3 for each in given)
    for one, other in zip(given, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)


def test_a_task_without_gradient_moves_nothing():
    model = several()
    x, y, weights = first_batch(model, batch_size=4)
    y["token_classifier"] = np.full_like(y["token_classifier"], -1)
    head = model.tasks["token_classifier"]
    before = {v.path: to_numpy(v) for v in head.trainable_variables}
    body = {id(v) for v in model.backbone.trainable_variables}
    given = step_of_sgd(model, (x, y, weights))
    assert all(np.isfinite(each).all() for each in given)
    for v in head.trainable_variables:
        if id(v) not in body:
            np.testing.assert_array_equal(to_numpy(v), before[v.path])


@pytest.mark.parametrize("names", [NAMES, [n for n in EXAMPLES if n not in NAMES]])
def test_every_task_learns_together_with_others(names):
    names = [name for name in names if name != "masked_lm"]
    model = several(names)
    model.compile(keras.optimizers.Adam(3e-3), losses_of(names), jit_compile=QUICK_JIT)
    data = model.dataset(sets_of(model), batch_size=4 * len(names), temperature=100)
    history = model.fit(data, epochs=3, steps_per_epoch=6, verbose=0).history
    assert set(history) == {"loss", *(f"{name}_loss" for name in names)}
    for name, losses in history.items():
        assert losses[-1] < losses[0], name
    mean = np.mean([history[f"{name}_loss"] for name in names], axis=0)
    np.testing.assert_allclose(history["loss"], mean, rtol=1e-5)


def test_each_step_follows_its_own_gradient_alone():
    model = several()
    batch = first_batch(model, batch_size=6)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=QUICK_JIT)
    for _ in range(3):
        before = [to_numpy(v) for v in model.trainable_variables]
        fresh = several()
        fresh.set_weights(model.get_weights())
        fresh.compile(keras.optimizers.SGD(0.1), jit_compile=QUICK_JIT)
        for each in (model, fresh):
            each.train_on_batch(*batch)
        after = model.trainable_variables, fresh.trainable_variables
        pairs = zip(before, *after, strict=True)
        for was, one, other in pairs:
            assert np.abs(was - to_numpy(one)).max() > 0
            np.testing.assert_allclose(to_numpy(one), to_numpy(other), atol=1e-6)


def test_dropout_is_drawn_anew_by_each_task_and_step():
    model = several(dropout=0.5)
    batch = first_batch(model, batch_size=8)
    model.compile(keras.optimizers.SGD(0.0), jit_compile=QUICK_JIT)
    losses = {float(model.train_on_batch(*batch)[0]) for _ in range(3)}
    assert len(losses) == 3
    without = several()
    without.compile(keras.optimizers.SGD(0.0), jit_compile=QUICK_JIT)
    assert len({float(without.train_on_batch(*batch)[0]) for _ in range(3)}) == 1


def test_evaluate_gives_the_losses_of_the_tasks():
    model = several()
    batch = first_batch(model, batch_size=8)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=QUICK_JIT)
    found = model.evaluate(*batch[:2], verbose=0, return_dict=True)
    for name, task in model.tasks.items():
        y_pred = ops.convert_to_tensor(task.predict(batch[0][name], verbose=0))
        loss = ops.mean(task.default_loss()(batch[1][name], y_pred))
        assert found[f"{name}_loss"] == pytest.approx(float(to_numpy(loss)), rel=1e-5)
    outputs = model.predict(batch[0], verbose=0)
    assert set(outputs) == set(model.tasks)


def test_saved_and_loaded_it_goes_on_alike(tmp_path):
    model = several()
    batch = first_batch(model, batch_size=8)
    model.compile(keras.optimizers.Adam(1e-3), task_weights={NAMES[0]: 3.0})
    model.train_on_batch(*batch)
    model.save(tmp_path / "several.keras")
    loaded = keras.saving.load_model(tmp_path / "several.keras")
    assert loaded.tasks[NAMES[0]].backbone is loaded.tasks[NAMES[1]].backbone
    assert len(loaded.weights) == len(model.weights)
    for _ in range(2):
        one, other = (each.train_on_batch(*batch) for each in (model, loaded))
        np.testing.assert_allclose(one, other, rtol=1e-5)
    for name in NAMES:
        np.testing.assert_allclose(
            loaded.tasks[name].predict(TEXTS, verbose=0),
            model.tasks[name].predict(TEXTS, verbose=0),
            atol=1e-5,
        )


def test_ready_batches_are_taken_as_they_are():
    import tensorflow as tf

    model = several()
    classifier = model.tasks["text_classifier"]
    x, y = classifier.preprocessor(TEXTS, labels=[0, 1, 0, 1])
    ready = tf.data.Dataset.from_tensors((x, y, np.ones(4, "float32"))).repeat()
    sets = sets_of(model) | {"text_classifier": ready}
    inputs, labels, weights = next(iter(model.dataset(sets, batch_size=3)))
    assert labels["text_classifier"].shape == (4,)
    assert inputs["token_classifier"]["token_ids"].shape == (3, 12)
    assert "text_classifier" in weights
    model.compile("sgd", jit_compile=QUICK_JIT)
    model.fit(model.dataset(sets, batch_size=3), steps_per_epoch=2, verbose=0)


@pytest.mark.tensorflow
@pytest.mark.jax
def test_a_run_that_goes_on_has_the_losses_of_one_without_a_stop(tmp_path):
    def run(steps, folder):
        keras.utils.set_random_seed(7)
        model = several(dropout=0.1)
        model.compile(keras.optimizers.Adam(1e-3), jit_compile=QUICK_JIT)
        return pretrain(
            model,
            lambda step: model.dataset(sets_of(model), 6, first_batch=step),
            steps=steps,
            steps_per_round=2,
            checkpoints=Checkpoints(folder, {"rate": 1e-3}),
            verbose=0,
        )

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    parts = run(4, tmp_path / "parts")
    assert [line["loss"] for line in parts] == [line["loss"] for line in whole]


class TestErrors:
    def test_tasks(self):
        with pytest.raises(ValueError, match="dict of tasks by name"):
            MultiTask([])
        task = several().tasks["text_classifier"]
        with pytest.raises(ValueError, match="without slash"):
            MultiTask({"a/b": task})
        with pytest.raises(ValueError, match="is no `Task`"):
            MultiTask({"a": task.backbone})
        other = several().tasks["text_classifier"]
        with pytest.raises(ValueError, match="'a' and 'b' have different backbones"):
            MultiTask({"a": task, "b": other})

    def test_names_and_weights(self):
        model = several()
        with pytest.raises(ValueError, match="no task 'c'. The tasks are"):
            model.compile("sgd", task_weights={"c": 1.0})
        with pytest.raises(ValueError, match="positive numbers. Received"):
            model.compile("sgd", task_weights={NAMES[0]: 0.0})
        with pytest.raises(ValueError, match="sets of a MultiTask are a dict"):
            model.dataset({NAMES[0]: (TEXTS, [0, 1, 0, 1])})

    def test_a_preprocessor_without_length(self):
        model = several(length=None)
        with pytest.raises(ValueError, match="Load the task with a `sequence_length`"):
            model.dataset(sets_of(model))
