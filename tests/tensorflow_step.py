"""The training step of TensorFlow, compiled by the compiler of a TPU.

    python tests/tensorflow_step.py gau_alpha v5e:2x2 [attention]

TensorFlow lowers the step that `fit` compiles to HLO; JAX's libtpu compiles that. It
takes private names of jaxlib, which `make test-tpu` pins. A process compiles one step:
libtpu crashes at the second that comes this way.
"""

import json
import re
import sys

from bert4keras3.models import GAUAlphaBackbone, RoFormerV2Backbone
from bert4keras3.tasks.masked_lm import MaskedLM
from bert4keras3.training.ahead_of_time import target_devices
from bert4keras3.training.compiled_step import (
    CompiledStep,
    count_operations,
    matmul_dtypes,
)
from zoo.compiling import compile_task, example_batch

ALIAS = re.compile(
    r"parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>"
)

POLICY = {"dtype": "mixed_bfloat16"}
MAKERS = {
    "gau_alpha": lambda: GAUAlphaBackbone(512, 2, 64, 128, key_dim=32, **POLICY),
    "roformer_v2": lambda: RoFormerV2Backbone(512, 2, 4, 64, 128, **POLICY),
}


def lowered(model, batch):
    """Serialized HLO of `model.train_step`, its variables donated."""
    import tensorflow as tf

    batch = tf.nest.map_structure(tf.constant, batch)
    model._symbolic_build(data_batch=batch)
    model.optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=True, autograph=False)
    def step(*parts):
        return model.train_step(parts)

    describe = step.experimental_get_compiler_ir(*batch)
    return describe(stage="hlo_serialized", platform_name="CPU")


def compiled(hlo, device, state):
    """`CompiledStep` of the program for a device; `state` is the bytes of variables."""
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir
    from jaxlib import _jax
    from jaxlib.xla_client import CompileOptions

    with mlir.make_ir_context():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo))
        attributes = module.operation.attributes
        aliases = ALIAS.findall(str(attributes["mhlo.input_output_alias"]))
        for name in [each for each in attributes if each.startswith("mhlo.")]:
            del attributes[name]
        main = next(each for each in module.body if each.name.value == "main")
        arguments = [
            dict((item.name, item.attr) for item in each)
            for each in (ir.DictAttr(attr) for attr in main.arg_attrs)
        ]
        for number, output in aliases:
            kind = ir.IntegerType.get_signless(32)
            arguments[int(number)]["tf.aliasing_output"] = ir.IntegerAttr.get(
                kind, int(output)
            )
        main.arg_attrs = ir.ArrayAttr.get([ir.DictAttr.get(each) for each in arguments])
        matmuls = matmul_dtypes(str(module))
        for block in main.regions[0]:
            for operation in list(block.operations):
                # TensorFlow's name for doing nothing; no other compiler knows it.
                if operation.operation.name == "mhlo.copy":
                    operation.result.replace_all_uses_with(operation.operands[0])
                    operation.operation.erase()
        program = device.client.compile(
            module, _jax.DeviceList((device,)), CompileOptions()
        )
    memory = program.get_compiled_memory_stats()
    operations, calls = count_operations(program.hlo_modules()[0].to_string())
    return CompiledStep(
        device=device.device_kind,
        chips=1,
        flops=0.0,
        bytes_accessed=0.0,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        donated=memory.alias_size_in_bytes,
        state=state,
        operations=operations,
        custom_calls=calls,
        matmuls=matmuls,
    )


if __name__ == "__main__":
    kind, topology, *recompute = sys.argv[1:]
    model = MaskedLM(MAKERS[kind](), None)
    model.backbone.enable_recompute(*recompute or [None])
    compile_task(model, "adamw")
    hlo = lowered(model, example_batch("masked_lm", 8, 64))
    state = sum(4 * weight.value.shape.num_elements() for weight in model.weights)
    step = compiled(hlo, target_devices(topology)[0], state)
    found = {
        "problems": step.problems("bf16"),
        "matmuls": sum(step.matmuls.values()),
        "peak": step.peak,
        "state": step.state,
    }
    print(json.dumps(found))
