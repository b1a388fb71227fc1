"""Training steps of every backbone and objective, compiled for TPUs and GPUs.

`make test-tpu` runs the tests that need the compilers of these devices. What needs
none, the lowering of a step, is tested with the others, on JAX.
"""

from collections import Counter

import keras
import numpy as np
import pytest

from bert4keras3.models import (
    BertBackbone,
    FLASHBackbone,
    GAUAlphaBackbone,
    RoFormerBackbone,
    RoFormerV2Backbone,
)
from bert4keras3.tasks.masked_lm import MaskedLM
from bert4keras3.tasks.multi_task import MultiTask
from bert4keras3.tasks.text_classifier import TextClassifier
from bert4keras3.training.ahead_of_time import (
    compile_step,
    data_parallel,
    lower_step,
    model_parallel,
    target_devices,
)
from bert4keras3.training.compiled_step import matmul_dtypes
from zoo.compiling import OBJECTIVES, compile_task, example_batch, largest_batch, plan

pytestmark = pytest.mark.jax
POLICY = {"dtype": "mixed_bfloat16"}
MAKERS = {
    "gau_alpha": lambda **o: GAUAlphaBackbone(512, 2, 64, 128, key_dim=32, **o),
    "roformer": lambda **o: RoFormerBackbone(512, 2, 4, 64, 128, **o),
    "roformer_v2": lambda **o: RoFormerV2Backbone(512, 2, 4, 64, 128, **o),
    "bert": lambda **o: BertBackbone(512, 2, 4, 64, 128, **o),
    "flash": lambda **o: FLASHBackbone(512, 2, 64, 128, key_dim=32, chunk_size=32, **o),
}
CASES = [(kind, "masked_lm") for kind in MAKERS]
CASES += [("gau_alpha", name) for name in OBJECTIVES if name != "masked_lm"]


def compiled_model(kind="gau_alpha", objective="masked_lm", optimizer="adamw", **o):
    model = MaskedLM(
        MAKERS[kind](attention=OBJECTIVES[objective][1], **{**POLICY, **o}), None
    )
    compile_task(model, optimizer)
    return model


# --- Without the compilers --------------------------------------------------------


@pytest.mark.parametrize("kind, objective", CASES)
def test_every_step_lowers_for_a_tpu(kind, objective):
    text = lower_step(compiled_model(kind, objective), example_batch(objective, 4, 64))
    assert "custom_call" not in text
    assert "tensor<?" not in text
    assert "tf.aliasing_output" in text or "jax.buffer_donor" in text
    products = matmul_dtypes(text)
    assert sum(products.values()) >= 20
    assert set(products) == {("bf16", "bf16")}


def test_a_step_of_several_tasks_is_the_sum_of_their_steps():
    def classifiers():
        body = MAKERS["gau_alpha"](**POLICY)
        return [TextClassifier(body, num_classes=n) for n in (2, 3)]

    tokens = {
        "token_ids": np.ones((4, 64), "int32"),
        "segment_ids": np.zeros((4, 64), "int32"),
        "padding_mask": np.ones((4, 64), "int32"),
    }
    labels = np.zeros(4, "int32")
    alone = Counter()
    for task in classifiers():
        task.compile("adam", metrics=None, jit_compile=True)
        alone += matmul_dtypes(lower_step(task, (tokens, labels, None)))
    model = MultiTask(dict(zip("ab", classifiers(), strict=True)))
    model.compile("adam", jit_compile=True)
    batch = ({"a": tokens, "b": tokens}, {"a": labels, "b": labels}, {})
    text = lower_step(model, batch)
    assert "custom_call" not in text
    assert matmul_dtypes(text) == alone


class Talking(keras.layers.Layer):
    """Calls the host within a step."""

    def call(self, x):
        import jax

        jax.debug.print("{}", x[0, 0])
        return x


def test_a_call_of_the_host_is_seen_in_the_lowering():
    model = keras.Sequential([keras.Input((4,)), Talking(), keras.layers.Dense(2)])
    model.compile("sgd", "mse", jit_compile=True)
    batch = (np.ones((8, 4), "float32"), np.ones((8, 2), "float32"), np.ones(8))
    assert "callback" in lower_step(model, batch, platform="cpu")


@pytest.mark.parametrize("topology", ["v5e", "h100:x", "v5e:2*2"])
def test_a_topology_has_a_shape(topology):
    with pytest.raises(ValueError, match="a chip and a shape, as v5e:2x2"):
        target_devices(topology)


class Step:
    """As much of a compiled step as the search for the largest batch looks at."""

    state, capacity = 1000, 16000

    def __init__(self, rows):
        self.peak = self.state + 100 * rows


@pytest.mark.parametrize("limit", [32, 33, 100, 150, 1000])
@pytest.mark.parametrize("unit", [1, 8])
def test_the_largest_batch_is_found(limit, unit):
    asked = []

    def compiled(rows):
        asked.append(rows)
        if rows > limit:
            raise MemoryError
        return Step(rows)

    found = largest_batch(compiled, 32, Step(32), unit)
    assert found <= limit < found + max(unit, found // 16) + 1
    assert found % unit == 0
    assert len(asked) <= 10


# --- With them --------------------------------------------------------------------


@pytest.mark.tpu
@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2"])
@pytest.mark.parametrize("kind, objective", CASES)
def test_every_step_compiles_for_tpus(kind, objective, topology):
    model = compiled_model(kind, objective)
    step = compile_step(model, example_batch(objective, 8, 64), topology)
    assert "TPU" in step.device and step.chips == 1
    assert step.problems("bf16") == []
    assert step.donated >= step.state > 0
    assert 0 < step.peak < 64 * 2**20
    assert step.flops > 1e8
    assert sum(step.matmuls.values()) >= 20


@pytest.mark.tpu
@pytest.mark.parametrize("optimizer", ["lamb", "tiger", "adafactor"])
def test_every_optimizer_compiles(optimizer):
    model = compiled_model(optimizer=optimizer)
    step = compile_step(model, example_batch("masked_lm", 8, 64))
    assert step.problems("bf16") == []


@pytest.mark.tpu
def test_a_step_with_accumulation_and_recompute_compiles():
    model = compiled_model()
    model.backbone.enable_recompute("layer")
    model.compile(
        keras.optimizers.AdamW(1e-3, gradient_accumulation_steps=4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    step = compile_step(model, example_batch("masked_lm", 8, 64))
    assert step.problems("bf16") == []


@pytest.mark.tpu
@pytest.mark.parametrize(
    "kind, mesh",
    [
        ("gau_alpha", None),
        ("gau_alpha", (2, 2)),
        ("gau_alpha", (1, 4)),
        ("roformer", (2, 2)),
        ("roformer_v2", (1, 4)),
    ],
)
def test_sharded_steps_use_cheap_collectives(kind, mesh):
    devices = target_devices("v5e:2x2")
    model = compiled_model(kind)
    one = compile_step(model, example_batch("masked_lm", 8, 64))
    if mesh is None:
        distribution = data_parallel(devices)
    else:
        distribution = model_parallel(devices, mesh, type(model.backbone))
    batch = example_batch("masked_lm", 8, 64)
    step = compile_step(model, batch, distribution=distribution)
    assert step.chips == 4
    assert step.collectives["all-reduce"] >= 1
    assert step.problems("bf16") == []
    if mesh is not None:
        assert step.state < one.state / mesh[1] * 1.2


@pytest.mark.tpu
def test_memory_and_work_of_two_full_layers():
    """Bars against a product in float32, kept matrices, or logits of every place."""
    model = MaskedLM(GAUAlphaBackbone(12000, 2, 768, 1536, **POLICY), None)
    compile_task(model, "adamw")
    batch = example_batch("masked_lm", 8, 512)
    step = compile_step(model, batch)
    assert step.problems("bf16") == []
    assert 255e9 < step.flops < 270e9
    assert step.peak < 350 * 2**20
    model.backbone.enable_recompute("attention")
    less = compile_step(model, batch)
    assert less.peak < step.peak
    assert less.flops < 1.08 * step.flops


@pytest.mark.tpu
def test_the_checks_see_a_call_of_the_host():
    model = keras.Sequential([keras.Input((4,)), Talking(), keras.layers.Dense(2)])
    model.compile("sgd", "mse", jit_compile=True)
    batch = (np.ones((8, 4), "float32"), np.ones((8, 2), "float32"), np.ones(8))
    problems = compile_step(model, batch).problems("bf16")
    assert any("leaves the device for the host" in problem for problem in problems)
    assert any("products of f32 and f32" in problem for problem in problems)


@pytest.mark.tpu
def test_what_does_not_fit_is_an_error_that_says_by_how_much():
    model = compiled_model()
    with pytest.raises(MemoryError, match="does not fit in the memory of a v5e.*G"):
        compile_step(model, example_batch("masked_lm", 4096, 2048))


@pytest.mark.tpu
def test_a_batch_must_divide_over_the_devices():
    devices = target_devices("v5e:2x2")
    with pytest.raises(ValueError, match="6 rows does not divide over 4 devices"):
        compile_step(
            compiled_model(),
            example_batch("masked_lm", 6, 64),
            distribution=data_parallel(devices),
        )


@pytest.mark.tpu
def test_a_mesh_must_fit_the_topology():
    with pytest.raises(ValueError, match="4x2 needs 8 devices; there are 4"):
        model_parallel(target_devices("v5e:2x2"), (4, 2), GAUAlphaBackbone)


@pytest.mark.tpu
def test_unknown_topologies_are_named():
    with pytest.raises(ValueError, match="No topology 'v5e:3x5'"):
        target_devices("v5e:3x5")


@pytest.mark.tpu
@pytest.mark.parametrize("topology", ["h100:1", "h100:4"])
def test_a_step_compiles_for_gpus(topology):
    devices = target_devices(topology)
    model = compiled_model()
    batch = example_batch("masked_lm", 8, 64)
    step = compile_step(model, batch, topology, data_parallel(devices))
    assert step.chips == len(devices)
    assert step.problems("bf16") == []
    assert step.state > 100_000


@pytest.mark.tpu
def test_a_plan():
    found = plan("gau-alpha-tiny", 8, 32, find_largest=False, num_layers=1)
    assert found.step.chips == 4
    assert found.step.capacity == int(15.75 * 2**30)
    assert found.largest is None
    with pytest.raises(ValueError, match="Unknown objective 'mlm'. Known: masked_lm"):
        plan("gau-alpha-tiny", objective="mlm")
