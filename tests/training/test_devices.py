"""Losses on several devices and in several processes equal those on one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.devices


def start(*arguments, script="devices_run.py", devices=1, **environment):
    """Begin a script of this folder in a process with so many forced devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, TESTS / script, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
            "XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0",
            **environment,
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def losses(process):
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(printed.splitlines()[-1])


def free_address():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{place.getsockname()[1]}"


@pytest.mark.jax
@pytest.mark.parametrize("kind, dropout", [("gau_alpha", 0.2), ("roformer_v2", 0.0)])
def test_meshes_of_four_devices(kind, dropout):
    options = ("--kind", kind, "--dropout", dropout)
    found = losses(start("one", "4x1", "2x2", "1x4", *options, devices=4))
    one = found.pop("one")
    assert len(set(one)) == len(one) == 4
    for mesh, others in found.items():
        np.testing.assert_allclose(others, one, rtol=1e-5, err_msg=mesh)


@pytest.mark.jax
def test_two_processes():
    two = ("2x1", "--processes", 2, "--address", free_address())
    environment = {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    processes = [start(*two, "--process", n, **environment) for n in range(2)]
    one = start("one")
    expected = losses(one)["one"]
    for process in processes:
        np.testing.assert_allclose(losses(process)["2x1"], expected, rtol=1e-5)


def check_equal(found, expected):
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.tensorflow
def test_replicas_and_workers():
    """Two logical CPUs with XLA in each, and two processes, equal Keras on one."""
    found = losses(start("one", "mirrored", script="replicas_run.py"))
    check_equal(found["mirrored"], found["one"])
    workers = [free_address(), free_address()]
    processes = [
        start(
            "workers",
            script="replicas_run.py",
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": workers},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]
    for process in processes:
        check_equal(losses(process), found["one"])
