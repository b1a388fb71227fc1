"""What holds for every task: padding, precision, texts that are too long."""

import functools

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import EXAMPLES, TEXTS, small_task

from bert4keras3.tasks import TASKS

EVERY = sorted(EXAMPLES)
EXCLUDED = -1e8  # logits below it mark what cannot be
# bfloat16 numbers are off by up to 2**-8, in a handful of layers.
BFLOAT16_BOUND = 2**-4


@functools.cache
def randomized(name):
    """A task with weights that give differing outputs."""
    task = small_task(name)
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
def test_the_content_of_padding_changes_nothing(name):
    task = randomized(name)
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


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_is_near_float32(name):
    task = randomized(name)
    half = small_task(name, dtype="mixed_bfloat16")
    half.set_weights(task.get_weights())
    inputs = encoded(task, name)
    for exact, rough in zip(outputs(task, inputs), outputs(half, inputs), strict=True):
        there = exact > EXCLUDED
        np.testing.assert_array_equal(rough > EXCLUDED, there)
        size = np.abs(exact[there]).max()
        difference = np.abs(rough - exact)[there].max()
        assert 0 < difference <= BFLOAT16_BOUND * size


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"question_answering"}))
def test_texts_beyond_the_limit_are_cut(name):
    """All but question answering, which reads long passages in windows."""
    task = small_task(name, length=8)
    pairs = EXAMPLES[name].x[1] if name == "multiple_choice" else None
    inputs = task.preprocessor([text * 9 for text in TEXTS], pairs, inputs_only=True)
    assert inputs["token_ids"].shape[-1] == 8
    there = inputs["padding_mask"].any(axis=-1)
    assert np.array_equal(inputs["padding_mask"].all(axis=-1), there)
    last = inputs["token_ids"][there][:, -1]
    assert np.all(last == task.tokenizer.sep_token_id)
