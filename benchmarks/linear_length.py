"""Memory and time of linear-time attention against the gated attention unit.

Compiles each layer with JAX for one row of every length, and prints the temporary
memory that the compiled program asks for, the median time of a call, and by how much
each grows per doubling of the length: 2 is linear, 4 quadratic.

    python benchmarks/linear_length.py [--longest 8192] [--repeats 3]

The runs of the layers are interleaved.
"""

import argparse
import os
import statistics
import time

os.environ["KERAS_BACKEND"] = "jax"
# Fusions that hide their buffers from the compiler's account of the memory.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from bert4keras3.layers import (  # noqa: E402
    GatedAttentionUnit,
    LinearAttention,
    MixedChunkAttentionUnit,
)

WIDTH, VALUE_WIDTH, KEY_WIDTH = 128, 256, 64


def make_layers():
    sizes = {"intermediate_dim": VALUE_WIDTH, "key_dim": KEY_WIDTH}
    return {
        "GatedAttentionUnit": GatedAttentionUnit(**sizes, rotary_embedding="rope"),
        "MixedChunkAttentionUnit": MixedChunkAttentionUnit(**sizes),
        "MixedChunkAttentionUnit, causal": MixedChunkAttentionUnit(
            **sizes, causal=True
        ),
        "LinearAttention": LinearAttention(WIDTH // KEY_WIDTH),
        "LinearAttention, causal": LinearAttention(WIDTH // KEY_WIDTH, causal=True),
    }


def growth(values):
    return ["-", *(f"x{b / a:.1f}" for a, b in zip(values, values[1:], strict=False))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--longest", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    lengths = [256]
    while 2 * lengths[-1] <= options.longest:
        lengths.append(2 * lengths[-1])
    layers = make_layers()
    megabytes = {name: [] for name in layers}
    milliseconds = {name: [] for name in layers}
    for length in lengths:
        x = np.random.default_rng(0).normal(size=(1, length, WIDTH)).astype("float32")
        runs, seconds = {}, {name: [] for name in layers}
        for name, layer in layers.items():
            layer(x[:, :8])
            runs[name] = jax.jit(layer).lower(x).compile()
            analysis = runs[name].memory_analysis()
            megabytes[name].append(analysis.temp_size_in_bytes / 1e6)
            runs[name](x).block_until_ready()
        for _ in range(options.repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run(x).block_until_ready()
                seconds[name].append(time.perf_counter() - start)
        for name in layers:
            milliseconds[name].append(1e3 * statistics.median(seconds[name]))
    print(f"width {WIDTH}, value {VALUE_WIDTH}, key {KEY_WIDTH}, one row, forward pass")
    for title, table in (
        ("temporary memory, MB", megabytes),
        ("time, ms", milliseconds),
    ):
        print(f"\n{title:32}" + "".join(f"{length:>14}" for length in lengths))
        for name, values in table.items():
            cells = zip(values, growth(values), strict=True)
            print(f"{name:32}" + "".join(f"{v:8.1f} {g:>5}" for v, g in cells))


if __name__ == "__main__":
    main()
