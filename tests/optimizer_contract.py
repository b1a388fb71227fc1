"""What every optimizer must do, and the golden trajectories of bert4keras's.

`BERT4KERAS3_GOLDEN` names another folder of fixtures, as in `golden_cases.py`.
"""

import functools
import json

import keras
import numpy as np
from golden_cases import GOLDEN, to_numpy

OPTIMIZERS = GOLDEN / "optimizers"
TOLERANCE = 2e-6


@functools.cache
def spec():
    return json.loads((OPTIMIZERS / "tfkeras.json").read_text(encoding="utf-8"))


@functools.cache
def arrays():
    """Kind (a config, `init` or `grads`) -> variable path -> array."""
    found = {}
    with np.load(OPTIMIZERS / "tfkeras.npz", allow_pickle=False) as stored:
        for key in stored.files:
            kind, _, path = key.rpartition("__")
            found.setdefault(kind, {})[path.replace("|", "/")] = stored[key]
    return found


def options(case):
    return dict(spec()["configs"][case]["kwargs"])


def new_variables(start=None):
    """Trainable variables with the names and values of the fixtures."""
    variables = []
    for path, value in (start or arrays()["init"]).items():
        layer, _, name = path.rpartition("/")
        with keras.name_scope(layer):
            variables.append(keras.Variable(value, name=name))
        assert variables[-1].path == path
    return variables


def trajectory(optimizer, start=None, steps=None, compiled=False):
    """Values after every `apply` of the prescribed gradients: path -> `(steps, ...)`.

    Args:
        start: values to start from, those of the fixtures by default.
        compiled: whether the step is jitted, on TensorFlow and JAX.
    """
    variables = new_variables(start)
    optimizer.build(variables)
    apply = compiled_apply(optimizer, variables) if compiled else optimizer.apply
    gradients = arrays()["grads"]
    values = {variable.path: [] for variable in variables}
    for step in range(steps or spec()["steps"]):
        apply([keras.ops.convert_to_tensor(gradients[v.path][step]) for v in variables])
        for variable in variables:
            values[variable.path].append(to_numpy(variable))
    return {path: np.stack(each) for path, each in values.items()}


def compiled_apply(optimizer, variables):
    """`optimizer.apply` under XLA, or as it is on PyTorch."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(optimizer.apply, jit_compile=True, autograph=False)
    if backend == "jax":
        import jax

        step = jax.jit(optimizer.stateless_apply)

        def apply(gradients):
            state = [v.value for v in optimizer.variables]
            new, state = step(state, gradients, [v.value for v in variables])
            for variable, value in zip(variables, new, strict=True):
                variable.assign(value)
            for variable, value in zip(optimizer.variables, state, strict=True):
                variable.assign(value)

        return apply
    return optimizer.apply


def assert_same(ours, theirs, tolerance=TOLERANCE):
    assert set(ours) == set(theirs) and ours
    for path, values in ours.items():
        np.testing.assert_allclose(
            values, theirs[path], rtol=0, atol=tolerance, err_msg=path
        )


def small_model():
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(7, 4, name="emb"),
            keras.layers.LayerNormalization(name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="dense"),
        ]
    )


def batch():
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 7, (8, 3)).astype("int32")
    return tokens, generator.standard_normal((8, 2)).astype("float32")


def check_optimizer(make, tmp_path):
    """Trains compiled, learns, saves its slots, and goes on just the same.

    Args:
        make: function without arguments that gives a new optimizer.
    """
    x, y = batch()
    model = small_model()
    jit_compile = keras.backend.backend() != "torch"
    model.compile(make(), "mse", jit_compile=jit_compile)
    losses = [float(model.train_on_batch(x, y)) for _ in range(6)]
    assert losses[-1] < losses[0]

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is type(model.optimizer)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    ours, theirs = model.optimizer.variables, again.optimizer.variables
    assert len(ours) == len(theirs) > 2
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    for each in (model, again):
        each.train_on_batch(x, y)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), atol=1e-6)


def check_mixed_precision(make):
    """`LossScaleOptimizer` goes round it; a step that overflows changes nothing."""
    x, y = batch()
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = small_model()
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    optimizer = keras.optimizers.LossScaleOptimizer(make(), initial_scale=8.0)
    model.compile(optimizer, "mse", jit_compile=False)
    start = [to_numpy(weight) for weight in model.weights]
    for _ in range(3):
        model.train_on_batch(x, y)
    after = [to_numpy(weight) for weight in model.weights]
    assert all(np.isfinite(value).all() for value in after)
    assert not all(
        np.array_equal(one, other) for one, other in zip(start, after, strict=True)
    )
    model.train_on_batch(x, np.full_like(y, np.inf))
    for before, weight in zip(after, model.weights, strict=True):
        np.testing.assert_array_equal(before, to_numpy(weight))
