"""Native notices are dropped, Python's exceptions and later output are not."""

import os
import subprocess
import sys

import pytest

from zoo.quiet import quiet_native_code


def test_native_output_is_dropped_and_comes_back(capfd):
    os.write(2, b"before ")
    with quiet_native_code():
        os.write(2, b"inside ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_exceptions_pass_and_standard_error_is_restored(capfd):
    with pytest.raises(RuntimeError, match="told"):
        with quiet_native_code():
            raise RuntimeError("told")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_no_descriptor_is_left_open():
    first = os.open(os.devnull, os.O_RDONLY)
    os.close(first)
    for _ in range(3):
        with quiet_native_code():
            pass
    again = os.open(os.devnull, os.O_RDONLY)
    os.close(again)
    assert again == first


def test_importing_keras_is_quiet():
    code = (
        "from zoo.quiet import quiet_native_code\n"
        "with quiet_native_code():\n"
        "    import keras\n"
        "print(keras.__version__)"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TF_CPP")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and done.stdout.strip()
    assert done.stderr == ""
