"""Time and memory of window attention in blocks against masked full attention.

Runs `MultiHeadAttention` with a window in blocks, and the same layer with the window
as a mask, over lengths of 128 to 4096. Each pair is compiled on JAX and run in turn.
Prints medians of the times, the temporary memory that the compiler plans for, the
ratios (blocks / full), and from which length on the blocks are quicker.

    python benchmarks/window_attention.py [--repeats 5] [--windows 16 64] [--sinks 0]
"""

import argparse
import os
import statistics
import time

os.environ["KERAS_BACKEND"] = "jax"
# Fusions that hide their buffers from the compiler's account of the memory.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from bert4keras3.layers.attention_mask import LambdaMask, WindowMask  # noqa: E402
from bert4keras3.layers.multi_head_attention import MultiHeadAttention  # noqa: E402

HEADS, HEAD_DIM = 4, 32


def make_mask(window, sinks):
    return LambdaMask(window, sinks) if sinks else WindowMask(window)


def make_layer(**options):
    layer = MultiHeadAttention(HEADS, HEAD_DIM, rotary_embedding="rope", **options)
    layer.build((None, None, HEADS * HEAD_DIM))
    return layer


def compiled_pair(length, mask):
    """The compiled blocks and full attention, and their input."""
    blocks, full = make_layer(window=mask), make_layer()
    full.set_weights(blocks.get_weights())
    x = np.random.default_rng(0).normal(size=(1, length, HEADS * HEAD_DIM))
    x = jax.numpy.asarray(x, "float32")
    real = jax.numpy.ones((1, length), bool)
    work = {
        "blocks": lambda x: blocks(x, padding_mask=real),
        "full": lambda x: full(x, attention_mask=mask(real)),
    }
    programs = {name: jax.jit(each).lower(x).compile() for name, each in work.items()}
    outputs = [np.asarray(program(x)) for program in programs.values()]
    np.testing.assert_allclose(*outputs, atol=1e-4)
    return programs, x


def measure(length, mask, repeats):
    """Median seconds and planned bytes of each, and the median ratio of seconds."""
    programs, x = compiled_pair(length, mask)
    seconds = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(x))
            seconds[name].append(time.perf_counter() - start)
    ratios = [
        ours / theirs
        for ours, theirs in zip(seconds["blocks"], seconds["full"], strict=True)
    ]
    memory = {
        name: program.memory_analysis().temp_size_in_bytes
        for name, program in programs.items()
    }
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return medians, memory, statistics.median(ratios)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--windows", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--sinks", type=int, default=0)
    parser.add_argument("--longest", type=int, default=4096)
    options = parser.parse_args()
    lengths = [2**power for power in range(7, 13) if 2**power <= options.longest]
    print(
        f"{HEADS} heads of {HEAD_DIM}, one text, {options.sinks} sinks, "
        f"{options.repeats} runs each, medians"
    )
    print("window length    blocks ms  full ms  ratio    blocks MB  full MB  ratio")
    crossover = {}
    for window in options.windows:
        for length in lengths:
            medians, memory, ratio = measure(
                length, make_mask(window, options.sinks), options.repeats
            )
            print(
                f"{window:6} {length:6}    {1e3 * medians['blocks']:9.2f} "
                f"{1e3 * medians['full']:8.2f} {ratio:6.2f}    "
                f"{memory['blocks'] / 1e6:9.1f} {memory['full'] / 1e6:8.1f} "
                f"{memory['blocks'] / max(memory['full'], 1):6.2f}",
                flush=True,
            )
            # Rows of two windows are computed whole in both.
            if ratio >= 1 or length <= 2 * window + options.sinks:
                crossover.pop(window, None)
            else:
                crossover.setdefault(window, length)
    for window in options.windows:
        length = crossover.get(window)
        found = f"from {length} places on" if length else "not within these lengths"
        print(f"window {window}: blocks are quicker {found}")


if __name__ == "__main__":
    main()
