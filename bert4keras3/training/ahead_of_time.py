"""Compile the step that `fit` runs for TPUs and GPUs, on a machine that has neither."""

from __future__ import annotations

import functools
import math
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import keras

from bert4keras3.training.compiled_step import (
    CompiledStep,
    count_operations,
    matmul_dtypes,
)

__all__ = [
    "compile_step",
    "data_parallel",
    "lower_step",
    "model_parallel",
    "target_devices",
]

GIBI = 2**30
# What the compiler leaves to programs, by the name of the chip in a topology.
CAPACITIES = {"v5e": 15.75 * GIBI, "v6e": 31.25 * GIBI, "h100": 79.1 * GIBI}
# Far faster to compile; memory and work of the program differ by a few percent.
QUICK = {"exec_time_optimization_effort": -1.0, "memory_fitting_effort": -1.0}
EXHAUSTED = re.compile(r"exceeds available|[Rr]an out of memory|RESOURCE_EXHAUSTED")
# What XLA must know of a GPU, from NVIDIA's data sheet and CUDA's properties of an SXM.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def target_devices(topology: str) -> list[Any]:
    """Return the devices of a topology that need not be here.

    Args:
        topology: `"v5e:2x2"`, `"v6e:2x4"` and whatever else libtpu knows, or
            `"h100:4"`, a host of four GPUs.

    Returns:
        Devices to compile for, in the order of a mesh; they run nothing.

    Raises:
        ImportError: the compiler of these devices is not installed.
        ValueError: no such topology.
    """
    chip, _, shape = topology.partition(":")
    if not re.fullmatch(r"\d+(x\d+)*", shape):
        raise ValueError(
            f"A topology is a chip and a shape, as v5e:2x2 or h100:4. Received "
            f"{topology!r}."
        )
    try:
        return list(_topology(topology).devices)
    except Exception as error:
        if missing := _missing_compiler(chip, str(error)):
            raise ImportError(missing) from error
        raise ValueError(
            f"No topology {topology!r}: {str(error).splitlines()[0]} Shapes of TPUs "
            "are those that are rented: v5e:2x2, v5e:2x4, v5e:4x4, v6e:2x2, v4:2x2x1."
        ) from error


@functools.cache  # devices outlive their topology, and libtpu crashes then
def _topology(name: str) -> Any:
    """Ask the compiler of a chip for its description."""
    from jax.experimental import topologies

    chip, _, shape = name.partition(":")
    if chip == "h100":
        return topologies.get_topology_desc(
            platform="cuda",
            topology_name="",
            topology=f"1x1x{shape}",
            target_config=H100,
        )
    # Without these libtpu asks the network what machine this is, and waits for it.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    return topologies.get_topology_desc(platform="tpu", topology_name=name)


def _missing_compiler(chip: str, message: str) -> str:
    """Return what to install, if that is what a message of JAX means."""
    from importlib.util import find_spec

    if chip == "h100":
        if find_spec("jax_cuda12_plugin") is None:
            return (
                "Compiling for a GPU needs its plugin, without CUDA: pip install "
                "jax-cuda12-plugin jax-cuda12-pjrt, of the version of jax."
            )
    elif find_spec("libtpu") is None:
        return (
            'Compiling for TPUs needs libtpu: pip install "bert4keras3-zoo[tpu]". '
            f"JAX says: {message}"
        )
    return ""


def data_parallel(devices: Sequence[Any]) -> Any:
    """Return a distribution that splits batches over devices, each with all weights."""
    mesh = keras.distribution.DeviceMesh((len(devices),), ["batch"], list(devices))
    return keras.distribution.DataParallel(device_mesh=mesh, auto_shard_dataset=False)


def model_parallel(devices: Sequence[Any], shape: Sequence[int], backbone: Any) -> Any:
    """Return a distribution that splits batches, and weights as the backbone says.

    Args:
        devices: devices of this machine or of `target_devices`.
        shape: how many parts a batch has, and how many a weight.
        backbone: class of the backbone, for `get_layout_map`.

    Raises:
        ValueError: the mesh is larger than the machine.
    """
    rows, columns = shape
    if rows * columns > len(devices):
        raise ValueError(
            f"A mesh of {rows}x{columns} needs {rows * columns} devices; there are "
            f"{len(devices)}."
        )
    mesh = keras.distribution.DeviceMesh(
        (rows, columns), ["batch", "model"], list(devices[: rows * columns])
    )
    return keras.distribution.ModelParallel(
        layout_map=backbone.get_layout_map(mesh),
        batch_dim_name="batch",
        auto_shard_dataset=False,
    )


def compile_step(
    model: keras.Model,
    batch: Any,
    topology: str = "v5e:2x2",
    distribution: Any = None,
    options: dict[str, Any] | None = None,
) -> CompiledStep:
    """Compile a model's training step for devices that need not be here.

    It is the step that `fit` compiles: forward, backward, optimizer and metrics, the
    state donated, laid out by the distribution. JAX only; that the TensorFlow step of
    the same model is the same program is a test of this project.

    Args:
        model: a compiled `keras.Model`, on the JAX backend, built under no
            distribution.
        batch: inputs, labels and weights as `fit` gets them: arrays, of the size of the
            batch of all devices together.
        topology: see `target_devices`; the first device alone, without `distribution`.
        distribution: of `data_parallel` or `model_parallel`, over these devices.
        options: of XLA's compiler; by default those that compile quickly.

    Returns:
        `CompiledStep`.

    Raises:
        MemoryError: the step does not fit; the compiler's words say by how much.
        RuntimeError: the backend is not JAX.
        ValueError: the batch does not divide over the devices.
    """
    if distribution is None:
        _require_jax()
        distribution = data_parallel(target_devices(topology)[:1])
    began = time.perf_counter()
    traced, state = _traced(model, batch, distribution)
    lowered = traced.lower()
    chip = topology.partition(":")[0]
    compiler_options = QUICK if chip != "h100" else {}
    try:
        program = lowered.compile(
            compiler_options=compiler_options if options is None else options
        )
    except Exception as error:
        if EXHAUSTED.search(str(error)):
            raise MemoryError(
                f"The step does not fit in the memory of a {chip}: "
                f"{_reason(str(error))}"
            ) from error
        raise
    memory = program.memory_analysis()
    cost = _cost(program)
    operations, custom_calls = count_operations(program.as_text())
    devices = distribution.device_mesh.devices.ravel()
    return CompiledStep(
        device=getattr(devices[0], "device_kind", chip),
        chips=len(devices),
        flops=float(cost.get("flops", 0.0)),
        bytes_accessed=float(cost.get("bytes accessed", 0.0)),
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        donated=memory.alias_size_in_bytes,
        state=sum(map(_bytes_per_device, state)),
        capacity=int(CAPACITIES.get(chip, 0)),
        operations=operations,
        custom_calls=custom_calls,
        matmuls=matmul_dtypes(lowered.as_text()),
        seconds=time.perf_counter() - began,
    )


def lower_step(model: keras.Model, batch: Any, platform: str = "tpu") -> str:
    """Return the StableHLO of a model's training step, as a compiler would get it.

    It needs no compiler of that platform, and proves less than `compile_step`: that the
    step can be traced and lowered, with static shapes and no call of the host.

    Args:
        model: a compiled `keras.Model`, on the JAX backend.
        batch: inputs, labels and weights, arrays.
        platform: `"tpu"`, `"cuda"` or `"cpu"`.

    Raises:
        RuntimeError: the backend is not JAX.
    """
    traced, _ = _traced(model, batch)
    return str(traced.lower(lowering_platforms=(platform,)).as_text())


def _require_jax() -> None:
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            "Steps are compiled ahead of time on the JAX backend: set "
            f"KERAS_BACKEND=jax. It is {keras.backend.backend()!r}."
        )


def _traced(
    model: keras.Model, batch: Any, distribution: Any = None
) -> tuple[Any, list[Any]]:
    """Trace the step that `fit` jits; return it, and the description of its state."""
    _require_jax()
    import jax
    import numpy as np

    if distribution is not None:
        _check_batch(batch, distribution)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    # What `fit` does before its first step: it makes the variables of the metrics.
    model._symbolic_build(data_batch=batch)
    layouts = _layouts(model, distribution)

    def described(variable: Any) -> Any:
        return jax.ShapeDtypeStruct(
            variable.shape, variable.value.dtype, sharding=layouts.get(id(variable))
        )

    def split(array: Any) -> Any:
        array = np.asarray(array)
        layout = None
        if distribution is not None:
            layout = distribution.get_data_layout(array.shape).backend_layout
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=layout)

    state = tuple(
        [described(variable) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    shardings = tuple([each.sharding for each in part] for part in state)
    step = jax.jit(
        model.train_step,
        donate_argnums=0,
        out_shardings=(None, shardings) if distribution is not None else None,
    )
    traced = step.trace(state, jax.tree.map(split, tuple(batch)))
    return traced, [each for part in state for each in part]


def _check_batch(batch: Any, distribution: Any) -> None:
    import jax

    sizes = {len(array) for array in jax.tree.leaves(batch)}
    mesh = distribution.device_mesh
    parts = mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]
    if len(sizes) != 1 or min(sizes) % parts:
        raise ValueError(
            f"A batch of {' or '.join(map(str, sorted(sizes)))} rows does not divide "
            f"over {parts} devices; pass a multiple of {parts}."
        )


def _layouts(model: keras.Model, distribution: Any) -> dict[int, Any]:
    """Return where the distribution puts each variable: identity -> JAX's sharding."""
    found: dict[int, Any] = {}
    if distribution is None:
        return found
    by_path = {}
    for variable in model.variables:
        layout = distribution.get_variable_layout(variable).backend_layout
        found[id(variable)] = layout
        by_path[variable.path.replace("/", "_")] = (tuple(variable.shape), layout)
    unsplit = keras.distribution.TensorLayout([], distribution.device_mesh)
    for variable in (*model.optimizer.variables, *model.metrics_variables):
        # What an optimizer keeps for a weight is named after it and lies beside it.
        name = variable.path.partition("/")[2]
        beside = [
            layout
            for path, (shape, layout) in by_path.items()
            if name.startswith(path) and shape == tuple(variable.shape)
        ]
        found[id(variable)] = beside[0] if beside else unsplit.backend_layout
    return found


def _bytes_per_device(each: Any) -> int:
    return math.prod(each.sharding.shard_shape(each.shape)) * each.dtype.itemsize


def _cost(program: Any) -> dict[str, float]:
    try:
        return program.cost_analysis() or {}
    except Exception:  # the GPU compiler has none without a GPU
        return {}


def _reason(message: str) -> str:
    """Return the line of a compiler's message that says how much was missing."""
    lines = [line.strip() for line in message.splitlines() if EXHAUSTED.search(line)]
    return lines[0] if lines else message.splitlines()[0]
