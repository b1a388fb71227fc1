"""What holds for every task: padding, precision, saving, one-example batches."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import EXAMPLES, JIT, TEXTS, small_task

from bert4keras3.tasks import TASKS

EVERY = sorted(EXAMPLES)
EXCLUDED = -1e8  # logits below it mark what cannot be
# bfloat16 numbers are off by up to 2**-8, in a handful of layers.
BFLOAT16_BOUND = 2**-4


def randomized(task):
    """The task with weights that give differing outputs."""
    rng = np.random.default_rng(5)
    for weight in task.weights:
        weight.assign(to_numpy(weight) + 0.2 * rng.normal(size=weight.shape))
    return task


def outputs(task, inputs):
    """Flat arrays of the outputs at arrays."""
    given = keras.tree.flatten(task.predict_on_batch(inputs))
    return [np.asarray(each, "float32") for each in given]


def encoded(task, name):
    x = EXAMPLES[name].x
    texts, pairs = x if isinstance(x, tuple) else (x, None)
    if name == "text_embedder":
        pairs = None
    return task.preprocessor(texts, pairs, inputs_only=True)


def test_every_task_has_an_example():
    # Next sentences need a pooler, and come without a preprocessor.
    assert set(EXAMPLES) == set(TASKS) - {"next_sentence"}


@pytest.mark.parametrize("name", EVERY)
def test_the_content_of_padding_and_its_amount_change_nothing(name):
    task = randomized(small_task(name))
    inputs = encoded(task, name)
    before = outputs(task, inputs)
    padding = inputs["padding_mask"] == 0
    assert padding.any(axis=-1).all()
    dirty = {**inputs, "token_ids": np.where(padding, 7, inputs["token_ids"])}
    dirty["segment_ids"] = np.where(padding, 1, inputs["segment_ids"])
    after = outputs(task, dirty)
    for left, right in zip(before, after, strict=True):
        if name == "masked_lm":  # it has logits at the padding too, which none reads
            left, right = left[~padding], right[~padding]
        if name == "token_classifier":
            real = inputs["token_mask"] == 1
            left, right = left[real], right[real]
        assert np.ptp(left[left > EXCLUDED]) > 0.01
        np.testing.assert_allclose(right, left, atol=1e-5)
    # The answers do not know how long the rows are, nor what else is in the batch.
    answers = EXAMPLES[name].answers(task)
    task.preprocessor.sequence_length = 20
    assert answers_agree(EXAMPLES[name].answers(task), answers)


def answers_agree(left, right):
    """Whether answers are equal, numbers to 1e-4."""
    if isinstance(left, float):
        return left == pytest.approx(right, abs=1e-4)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(
            answers_agree(left[key], right[key]) for key in left
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(answers_agree, left, right))
    return left == right


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_is_near_float32(name):
    task = randomized(small_task(name))
    half = small_task(name, dtype="mixed_bfloat16")
    half.set_weights(task.get_weights())
    inputs = encoded(task, name)
    for exact, rough in zip(outputs(task, inputs), outputs(half, inputs), strict=True):
        there = exact > EXCLUDED
        np.testing.assert_array_equal(rough > EXCLUDED, there)
        size = np.abs(exact[there]).max()
        difference = np.abs(rough - exact)[there].max()
        assert 0 < difference <= BFLOAT16_BOUND * size


@pytest.mark.parametrize("name", EVERY)
def test_fits_batches_of_one_and_of_a_rest_and_is_saved(name, tmp_path):
    example, task = EXAMPLES[name], small_task(name)
    task.compile(keras.optimizers.Adam(1e-2), example.loss, jit_compile=JIT)
    before = task.get_weights()
    history = task.fit(example.x, example.y, batch_size=3, verbose=0)  # 3 and 1
    assert np.isfinite(history.history["loss"]).all()
    after = task.get_weights()
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.8
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    for left, right in zip(after, loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert answers_agree(example.answers(loaded), example.answers(task))


@pytest.mark.parametrize("name", EVERY)
def test_texts_beyond_the_limit_are_cut(name):
    if name == "question_answering":
        pytest.skip("it reads long passages in windows")
    task = small_task(name, length=8)
    x = EXAMPLES[name].x
    long = [text * 9 for text in TEXTS]
    given = encoded(task, name)
    longer = task.preprocessor(
        long, x[1] if name == "multiple_choice" else None, inputs_only=True
    )
    for key, array in longer.items():
        assert array.shape == given[key].shape
    assert (longer["padding_mask"] == 1).all(axis=-1).sum() >= len(TEXTS)
    assert all(np.isfinite(each).all() for each in outputs(task, longer))
