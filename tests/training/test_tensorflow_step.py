"""The step of TensorFlow is a program for TPUs too, with nothing of the host in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
pytestmark = [pytest.mark.tensorflow, pytest.mark.tpu]


@pytest.mark.parametrize(
    "arguments",
    ["gau_alpha v5e:2x2", "roformer_v2 v6e:2x2", "gau_alpha v5e:2x2 attention"],
)
def test_it_compiles_for_tpus(arguments):
    done = subprocess.run(
        [sys.executable, TESTS / "tensorflow_step.py", *arguments.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, TESTS.parents[:1]))},
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
        check=True,
    )
    step = json.loads(done.stdout.splitlines()[-1])
    assert step["problems"] == []
    assert step["matmuls"] >= 20
    assert step["peak"] > step["state"] > 0
