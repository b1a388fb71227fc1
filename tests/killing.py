"""A process that is killed in the middle of its work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def kill_when(begun, *command, seconds=0.0):
    """Run Python with arguments; kill it so long after `begun()`; the exit code."""
    here = Path(__file__).parent
    path = [str(here), str(here.parent), *filter(None, sys.path)]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not begun():
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait()
