"""Tasks saved on one backend and loaded on another, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import EXAMPLES, QUICK_JIT, small_task

BACKEND = keras.backend.backend()
LOADS_AND_SAVES = """
import json, sys
import numpy as np
import zoo
from small_tasks import EXAMPLES

folder = sys.argv[1]
for name in sys.argv[2:]:
    task = zoo.load(f"{folder}/{name}.keras")
    answers = EXAMPLES[name].answers(task)
    with open(f"{folder}/{name}.json", "w", encoding="utf-8") as file:
        json.dump([answers, int(task.optimizer.iterations)], file)
    task.save(f"{folder}/{name}_again.keras")
"""


def near(left, right):
    """Whether answers are equal, numbers to 1e-4."""
    if isinstance(left, float):
        return left == pytest.approx(right, abs=1e-4)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(
            near(left[key], right[key]) for key in left
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(near, left, right))
    return left == right


def check_on(other, names, tmp_path):
    tasks, rng = {}, np.random.default_rng(5)
    for name in names:
        example = EXAMPLES[name]
        task = tasks[name] = small_task(name)
        for weight in task.weights:
            weight.assign(to_numpy(weight) + 0.2 * rng.normal(size=weight.shape))
        task.compile(keras.optimizers.Adam(1e-2), example.loss, jit_compile=QUICK_JIT)
        if name == "text_classifier":  # fine-tuned: its optimizer has a state
            task.fit(example.x, example.y, verbose=0)
        task.save(tmp_path / f"{name}.keras")
    tests = Path(__file__).parents[1]
    environment = {
        "KERAS_BACKEND": other,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{tests}:{tests.parent}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    run = subprocess.run(
        [sys.executable, "-c", LOADS_AND_SAVES, str(tmp_path), *tasks],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for name, task in tasks.items():
        stored = (tmp_path / f"{name}.json").read_text(encoding="utf-8")
        there, steps = json.loads(stored)
        here = EXAMPLES[name].answers(task)
        assert near(there, json.loads(json.dumps(here))), name
        assert steps == (name == "text_classifier")
        # And back: what the other backend saved is what we had.
        loaded = keras.saving.load_model(tmp_path / f"{name}_again.keras")
        for left, right in zip(task.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(to_numpy(left), to_numpy(right))


def test_a_task_answers_alike_on_tensorflow(tmp_path):
    """On TensorFlow: the file holds all that a new process needs."""
    check_on("tensorflow", ["text_classifier"], tmp_path)


@pytest.mark.slow
def test_all_tasks_answer_alike_on_another_backend(tmp_path):
    other = "jax" if BACKEND == "tensorflow" else "tensorflow"
    check_on(other, sorted(EXAMPLES), tmp_path)
