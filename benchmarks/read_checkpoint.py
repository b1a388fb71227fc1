"""Speed and memory of reading checkpoints, beside a plain read of the same bytes.

    python benchmarks/read_checkpoint.py

Writes a checkpoint of 98 random tensors with the shapes of GAU-α (386 MB) in each
format, then reads it in two ways, in turn, several times over: through
`open_checkpoint`, and by `readinto` of the same bytes into one array per tensor, which
is the least that any reader must do. The files are in the page cache, so this measures
the reader and not the disk. The ratio is the median of the ratios of neighbouring runs,
which a busy machine disturbs least; the ratio of the two best runs and the processor
time are given for the same reason. Memory is the peak resident set of a fresh process
that reads all tensors, less that of one that only opens the file (Linux only).

A reader that keeps up with a plain read has a ratio near 1; the aim is at most 1.1.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "tests"))

import torch_files

from zoo.checkpoints import open_checkpoint, write_safetensors, write_tf1

FORMATS = ("tf1", "safetensors", "torch", "torch-legacy")


def shapes(layers=24, vocabulary=12000, hidden=768, inner=1536, key=128):
    """Names and shapes of the released GAU-α."""
    yield "bert/embeddings/word_embeddings", (vocabulary, hidden)
    yield "bert/embeddings/token_type_embeddings", (2, hidden)
    for layer in range(layers):
        prefix = f"GAU_alpha/encoder/layer_{layer}/gau"
        yield f"{prefix}/i_dense/kernel", (hidden, 2 * inner + key)
        yield f"{prefix}/q_scaleoffset/gamma", (key,)
        yield f"{prefix}/k_scaleoffset/gamma", (key,)
        yield f"{prefix}/o_dense/kernel", (inner, hidden)


def write(folder, kind, arrays):
    """Writes a checkpoint; gives what to open, and the file with the numbers."""
    if kind == "tf1":
        prefix = write_tf1(folder / "bert_model.ckpt", arrays)
        return prefix, folder / "bert_model.ckpt.data-00000-of-00001"
    if kind == "safetensors":
        path = write_safetensors(folder / "model.safetensors", arrays)
        return path, path
    path = folder / f"{kind}.bin"
    legacy = kind == "torch-legacy"
    root = torch_files.state_dict(arrays, legacy=legacy)
    storages = torch_files.storages_of(arrays)
    if legacy:
        sizes = dict.fromkeys(storages, 4)
        path.write_bytes(torch_files.legacy_bytes(root, storages, sizes))
    else:
        path.write_bytes(torch_files.zip_bytes(root, storages))
    return path, path


def read_ours(path):
    with open_checkpoint(path) as checkpoint:
        return [checkpoint.read(name) for name in checkpoint.variables]


def places(kind, path, sizes):
    """Where each tensor begins in the file with the numbers."""
    if kind == "torch":
        with zipfile.ZipFile(path) as archive:
            return [
                member.header_offset + 30 + len(member.filename)
                for member in archive.infolist()
                if "/data/" in member.filename
            ]
    gap = 8 if kind == "torch-legacy" else 0
    ends = list(itertools.accumulate(size + gap for size in sizes))
    begin = path.stat().st_size - ends[-1]
    return [begin + end - size for end, size in zip(ends, sizes, strict=True)]


def read_plain(path, offsets, sizes):
    arrays = []
    with open(path, "rb", buffering=0) as file:
        for offset, size in zip(offsets, sizes, strict=True):
            array = np.empty(size, np.uint8)
            file.seek(offset)
            file.readinto(array.data)
            arrays.append(array)
    return arrays


def seconds(function, *arguments):
    """Wall time and processor time of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    took = time.perf_counter() - wall, time.process_time() - cpu
    del result
    return took


def peak_bytes(path, keep):
    """Peak resident set of a process that opens a checkpoint and may read it all."""
    action = (
        "read_ours(sys.argv[1])" if keep else "open_checkpoint(sys.argv[1]).close()"
    )
    code = "import sys; sys.path.insert(0, sys.argv[2]); import read_checkpoint as b\n"
    code += f"b.{action}\n"
    # Not `getrusage`: a child begins with the peak of its parent there.
    code += "print(open('/proc/self/status').read())"
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", code, str(path), folder]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return 1024 * int(ran.stdout.partition("VmHWM:")[2].split()[0])


def summary(ours, plain):
    """Medians, the median of the ratios, and the ratio of the best runs."""
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    return (
        f"{statistics.median(ours):6.3f} {statistics.median(plain):6.3f} "
        f"{statistics.median(ratios):6.3f} {min(ours) / min(plain):6.3f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    arrays = {
        name: random.standard_normal(shape, "float32")
        for name, shape in sorted(shapes(options.layers))
    }
    sizes = [array.nbytes for array in arrays.values()]
    total = sum(sizes)
    print(f"{len(arrays)} tensors, {total / 1e6:.1f} MB, {options.repeats} pairs")
    heads = f"{'ours':>6} {'plain':>6} {'ratio':>6} {'best':>6}"
    print(f"{'':12}   wall seconds{'':18}processor seconds")
    print(f"{'format':12} {heads}   {heads}   peak memory / bytes")
    for kind in options.formats:
        with tempfile.TemporaryDirectory() as folder:
            path, data = write(Path(folder), kind, arrays)
            offsets = places(kind, data, sizes)
            for ours, plain in zip(
                read_ours(path), read_plain(data, offsets, sizes), strict=True
            ):
                assert ours.tobytes() == plain.tobytes()
            ours, plain = [], []
            for turn in range(options.repeats):
                # Which one goes first changes, or the second would profit always.
                if turn % 2:
                    plain.append(seconds(read_plain, data, offsets, sizes))
                ours.append(seconds(read_ours, path))
                if not turn % 2:
                    plain.append(seconds(read_plain, data, offsets, sizes))
            walls = [[pair[0] for pair in side] for side in (ours, plain)]
            cpus = [[pair[1] for pair in side] for side in (ours, plain)]
            line = f"{kind:12} {summary(*walls)}   {summary(*cpus)}"
            if sys.platform == "linux":
                memory = peak_bytes(path, True) - peak_bytes(path, False)
                line += f"   {memory / total:6.3f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
