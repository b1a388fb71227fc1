"""What every public layer owes its users, as plain functions.

`make` builds the layer from keyword arguments such as `dtype`; `arrays` are its call
arguments by name, the first one first; what is not an array is a constant. Among the
sizes of the arrays only `LENGTHS` may be unknown to a model; no other axis may have one
of these sizes.
"""

import json

import keras
import numpy as np
from gradients import compiled
from keras import ops

from bert4keras3.layers.initializer import initializers_skipped

LENGTHS = (5, 7)

# Largest difference from float32, relative to the largest output. A product of two
# bfloat16 numbers is off by up to 2**-8; a layer has a handful of them in a row.
POLICY_BOUNDS = {
    "float32": 1e-6,
    "mixed_float16": 2**-7,
    "mixed_bfloat16": 2**-4,
    "bfloat16": 2**-4,
}


def to_numpy(tensor):
    tensor = ops.convert_to_tensor(tensor)
    if keras.backend.standardize_dtype(tensor.dtype) != "bool":
        tensor = ops.cast(tensor, "float32")
    return np.array(ops.convert_to_numpy(tensor))


def call(layer, arrays, **options):
    """Outputs as a list, whatever the layer returns."""
    first, *others = arrays
    outputs = layer(arrays[first], **{name: arrays[name] for name in others}, **options)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def named_weights(layer):
    """Path inside the layer -> variable."""
    return {v.path.removeprefix(f"{layer.path}/"): v for v in layer.weights}


def assign(layer, values):
    """Set every weight by its path; a missing or a surplus one is an error."""
    weights = named_weights(layer)
    assert weights.keys() == values.keys(), sorted(weights.keys() ^ values.keys())
    for name, value in values.items():
        weights[name].assign(value)


def randomize(layer, seed=0):
    """Give every weight random values of size about one; return them in float64."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, variable in sorted(named_weights(layer).items()):
        fan_in = variable.shape[0] if len(variable.shape) == 2 else 1
        values[name] = rng.normal(0, fan_in**-0.5, variable.shape).astype("float32")
    assign(layer, values)
    return {name: value.astype("float64") for name, value in values.items()}


def symbols(arrays, unknown_lengths):
    """A `keras.Input` in place of every array, with the batch size left open."""

    def shape(array):
        return [
            None if unknown_lengths and size in LENGTHS else size
            for size in array.shape[1:]
        ]

    return {
        name: keras.Input(shape(array), dtype=str(array.dtype), name=name)
        if isinstance(array, np.ndarray)
        else array
        for name, array in arrays.items()
    }


def tensors_only(arrays):
    return {k: v for k, v in arrays.items() if not isinstance(v, int)}


def build(layer, arrays):
    """Make the weights; `randomize` or `assign` gives them their values."""
    with initializers_skipped():
        call(layer, symbols(arrays, unknown_lengths=False))


def compute(layer, arrays, **options):
    """`call` in one compiled piece where that is quicker, for a layer that is built."""

    def run(tensors):
        return call(layer, {**arrays, **tensors}, **options)

    return compiled(run)(tensors_only(arrays))


def check_config(make, arrays):
    """The config survives JSON and rebuilds a layer that computes the same."""
    layer = make(name="subject")
    build(layer, arrays)
    values = randomize(layer)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["registered_name"].startswith("bert4keras3>")
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    build(again, arrays)
    assign(again, values)
    after = compute(layer, arrays)
    for one, other in zip(after, compute(again, arrays), strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


def check_symbolic_shape(make, arrays, **options):
    """A model sees the shapes and dtypes that a call gives, lengths known or not."""
    for policy in ("float32", "mixed_bfloat16"):
        layer = make(dtype=policy)
        build(layer, arrays)
        eager = compute(layer, arrays, **options)
        for unknown_lengths in (False, True):
            symbolic = call(layer, symbols(arrays, unknown_lengths), **options)
            for promised, given in zip(symbolic, eager, strict=True):
                dtype = keras.backend.standardize_dtype(given.dtype)
                assert promised.dtype == dtype, policy
                assert len(promised.shape) == len(given.shape)
                for one, other in zip(promised.shape, given.shape, strict=True):
                    assert one in (None, other) or other == 1
                if not unknown_lengths:
                    assert tuple(promised.shape[1:]) == tuple(given.shape[1:])


def check_dtype_policies(make, arrays, in_float32=False):
    """Every policy gives its compute dtype, its variable dtype, and near numbers.

    A layer whose output has no room in half precision gives float32 (`in_float32`).
    """
    layer = make(dtype="float32")
    build(layer, arrays)
    values = randomize(layer)
    expected = compute(layer, arrays)
    for policy, bound in POLICY_BOUNDS.items():
        layer = make(dtype=policy)
        build(layer, arrays)
        assign(layer, values)
        for variable in layer.weights:
            assert variable.dtype == layer.dtype_policy.variable_dtype
        for given, wanted in zip(compute(layer, arrays), expected, strict=True):
            dtype = keras.backend.standardize_dtype(given.dtype)
            assert dtype in ("float32" if in_float32 else layer.compute_dtype, "bool")
            given, wanted = to_numpy(given), to_numpy(wanted)
            error = np.max(np.abs(given * 1.0 - wanted))
            assert error <= bound * np.max(np.abs(wanted)), (policy, error)


def model_around(layer, arrays):
    """A model that can only learn through the layer: dense, layer, dense."""
    inputs = symbols(arrays, unknown_lengths=False)
    fed = {
        name: keras.layers.Dense(x.shape[-1], name=f"{name}_dense")(x)
        if getattr(x, "dtype", None) == "float32"
        else x
        for name, x in inputs.items()
    }
    heads = [
        keras.layers.Dense(1)(keras.layers.Flatten()(ops.cast(output, "float32")))
        for output in call(layer, fed)
    ]
    head = heads[0] if len(heads) == 1 else keras.layers.Add()(heads)
    return keras.Model(tensors_only(inputs), head)


def check_training_step(make, arrays):
    """Compiled steps move every weight, stay finite, and are traced in one go."""
    layer = make()
    model = model_around(layer, arrays)
    randomize(layer)
    traces = []
    plain_call = layer.call
    layer.call = lambda *a, **k: (traces.append(1), plain_call(*a, **k))[1]
    compiled = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=compiled)
    before = [to_numpy(v) for v in model.trainable_variables]
    batch = tensors_only(arrays)
    targets = np.ones((len(next(iter(batch.values()))), 1), "float32")
    model.train_on_batch(batch, targets)
    model.train_on_batch(batch, targets)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        new = to_numpy(variable)
        assert np.all(np.isfinite(new)), variable.path
        assert not np.array_equal(old, new), f"{variable.path} did not learn"
    if compiled:
        traced = len(traces)
        assert traced > 0
        model.train_on_batch(batch, targets)
        assert len(traces) == traced, "traced again for a batch of the same shape"


def check_saving(make, arrays, folder):
    """A `.keras` file gives back a model with exactly the same output."""
    layer = make()
    model = model_around(layer, arrays)
    randomize(layer)
    model.save(folder / "model.keras")
    again = keras.saving.load_model(folder / "model.keras")
    batch = tensors_only(arrays)
    one, other = compiled(model)(batch), compiled(again)(batch)
    np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    assert [v.path for v in again.weights] == [v.path for v in model.weights]
