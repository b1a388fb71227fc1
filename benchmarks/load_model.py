"""Time and memory of `zoo.load` against a plain read of the same bytes.

Makes a GAU-α checkpoint of the released size (96.5M weights, 386 MB, random values) in
a temporary folder, then measures in turn, each in a process of its own: reading the
bytes into arrays, and loading the model. Prints medians, their ratio, and the peak
memory that each adds to a process that has imported Keras.

    python benchmarks/load_model.py [--repeats 5] [--layers 24]

The page cache is warm in both, so this is the cost of the program, not of the disk.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
import json, sys, time, resource
import numpy as np
import keras
keras.ops.zeros((1,))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
start = time.perf_counter()
{work}
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "bytes": peak() - before}}))
"""
PLAIN = """
arrays = []
with open(sys.argv[1] + "/bert_model.ckpt.data-00000-of-00001", "rb") as file:
    size = file.seek(0, 2)
    file.seek(0)
    while size:
        array = np.empty(min(size, 1 << 24), "uint8")
        size -= file.readinto(array)
        arrays.append(array)
"""
LOAD = "import zoo; model = zoo.load(sys.argv[1])"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=24)
    options = parser.parse_args()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import zoo, sys\n"
                f"layers = {options.layers}\n"
                "model = zoo.load('gau-alpha', weights=None, num_layers=layers)\n"
                "zoo.save(model, sys.argv[1])",
                str(target),
            ],
            check=True,
            env=environment,
        )
        size = (target / "bert_model.ckpt.data-00000-of-00001").stat().st_size
        results = {"plain": [], "load": []}
        for _ in range(options.repeats):
            for name, work in (("plain", PLAIN), ("load", LOAD)):
                done = subprocess.run(
                    [sys.executable, "-c", READ.format(work=work), str(target)],
                    check=True,
                    capture_output=True,
                    text=True,
                    env=environment,
                )
                results[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{size / 1e6:.0f} MB, {options.repeats} runs each, medians")
    for name, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        added = statistics.median(run["bytes"] for run in runs)
        print(f"{name:6} {seconds:.2f} s, {added / size:.2f} times the bytes in memory")
    ratios = [
        load["seconds"] / plain["seconds"]
        for load, plain in zip(results["load"], results["plain"], strict=True)
    ]
    print(f"load / plain read: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
