"""How often `fit` compiles a training step, for batches of one text."""

import keras
import numpy as np
import pytest
from small_tasks import EXAMPLES, JIT, QUICK_JIT, TEXTS, small_task

BACKEND = keras.backend.backend()
# TensorFlow runs the code of a step a first time to create its variables.
ONE_COMPILATION = {"tensorflow": 2, "jax": 1}
# Entities have a test below, and relations are spans as they are: each takes seconds.
NAMES = sorted(set(EXAMPLES) - {"entity_recognizer", "relation_extractor"})


def count_traces(task, calls):
    """Note every run of the Python code of the step; compiled, that is every trace."""
    step = task.train_step

    def counted(*arguments):
        calls.append(1)
        return step(*arguments)

    task.train_step = counted


def compiled_task(name, compiler=QUICK_JIT, **arguments):
    task, loss = small_task(name, **arguments), EXAMPLES[name].loss
    task.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=compiler)
    return task


@pytest.mark.parametrize("name", NAMES)
def test_a_length_compiles_once_and_trains_every_weight(name):
    example, task, traces = EXAMPLES[name], compiled_task(name), []
    count_traces(task, traces)
    before = task.get_weights()
    # One pair of texts has no other to be nearer than.
    batch_size = 4 if name == "text_embedder" else 1
    for _ in range(2):
        history = task.fit(example.x, example.y, batch_size=batch_size, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
    for weight, old in zip(task.weights, before, strict=True):
        changed = not np.array_equal(keras.ops.convert_to_numpy(weight), old)
        # With zero segment ids there is one row of a table to learn from, or none.
        assert changed or "segment" in weight.path, weight.path
    steps = 2 * 4 // batch_size  # PyTorch runs the code at each
    assert len(traces) == ONE_COMPILATION.get(BACKEND, steps)


def test_buckets_compile_once_each():
    example, traces = EXAMPLES["entity_recognizer"], []
    task = compiled_task("entity_recognizer", JIT, length=[16, 32])
    count_traces(task, traces)
    texts = [*TEXTS[:2], *(text + "山" * 20 for text in TEXTS[2:])]
    lengths = {task.preprocessor([text])["token_ids"].shape[1] for text in texts}
    assert lengths == {16, 32}
    for _ in range(2):
        history = task.fit(texts, example.y, batch_size=1, shuffle=False, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
    # TensorFlow traces with an open length; XLA then compiles for each.
    assert len(traces) == {"tensorflow": 2, "jax": 2, "torch": 8}[BACKEND]
