"""Time and memory of two gated attention units against attention and feed-forward.

Task: layers of the base models (width 768; 12 heads of 64 and a feed-forward of 3072;
    two gated units of 1536 with keys of 128), 2048 tokens a batch as rows of 64 to
    2048, forwards and a training step (gradients of weights and input).
Claim: GAU-alpha is quicker than RoFormerV2 only above a length of 512, and needs less
    memory, the more so the longer the text.
Command: python examples/claims/gau_speed.py --output docs/claims
    python examples/claims/gau_speed.py --smoke
Hardware: one CPU core, about 3 minutes a run; needs JAX, for the compiler's figures.
Score: ratios, gated units / RoFormerV2, of the medians of processor times that were
    taken in turn, and of the temporary memory that the compiled program asks for. XLA's
    attention kernel for CPUs is off, as its memory would not be counted. A "seed" is
    another run of all times.
Source: https://kexue.fm/archives/9052
"""

import functools
import os
import time

os.environ["KERAS_BACKEND"] = "jax"
# One thread, whose time can be told from that of other programs; all of its memory.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_multi_thread_eigen=false --xla_cpu_experimental_ynn_fusion_type=",
)

import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import report  # noqa: E402

from bert4keras3.layers import (  # noqa: E402
    GatedAttentionUnit,
    RMSNorm,
    TransformerLayer,
)

WIDTH, HEADS, KEY_WIDTH = 768, 12, 128
TOKENS, LENGTHS, REPEATS = 2048, (64, 128, 256, 512, 1024, 2048), 3


def make_layers(width):
    """`(RoFormerV2, GAU-alpha)` of about the same weights, without dropout."""
    x = keras.Input((None, width))
    transformer = TransformerLayer(
        width * HEADS // WIDTH,
        4 * width,
        activation="relu",
        use_bias=False,
        norm="rms_norm",
        rotary_embedding="rope",
    )
    gated = x
    for _ in range(2):
        unit = GatedAttentionUnit(
            2 * width,
            key_dim=KEY_WIDTH,
            normalizer="entropy_invariant_softmax",
            rotary_embedding="rope",
            use_bias=False,
        )
        gated = RMSNorm()(gated + unit(gated))
    return keras.Model(x, transformer(x)), keras.Model(x, gated)


@functools.cache
def compiled(width, length, tokens):
    """Forwards and step of each of the two, with its weights; and their input."""
    x = np.random.default_rng(0).normal(size=(tokens // length, length, width))
    x = jax.numpy.asarray(x, "float32")
    programs = []
    for model in make_layers(width):
        weights = [variable.value for variable in model.trainable_variables]

        def forwards(weights, x, model=model):
            return model.stateless_call(weights, [], x)[0]

        def loss(weights, x, forwards=forwards):
            return (forwards(weights, x) ** 2).mean()

        step = jax.value_and_grad(loss, argnums=(0, 1))
        for work in (forwards, step):
            program = jax.jit(work).lower(weights, x).compile()
            jax.block_until_ready(program(weights, x))  # the first run is slower
            programs.append((program, weights))
    return programs, x


def measure(width, length, tokens, repeats):
    """Ratios of times and of memory: `(forwards, step, forwards, step)`."""
    programs, x = compiled(width, length, tokens)
    seconds = np.zeros((repeats, len(programs)))
    for row in seconds:
        for i, (program, weights) in enumerate(programs):
            start = time.process_time()
            jax.block_until_ready(program(weights, x))
            row[i] = time.process_time() - start
    medians = np.median(seconds, 0)
    memory = [each.memory_analysis().temp_size_in_bytes for each, _ in programs]
    print(
        f"{length}: ms {np.round(1e3 * medians, 1)}, MB {np.round(memory, -5) / 1e6}",
        flush=True,
    )
    return [*(medians[2:] / medians[:2]), *np.divide(memory[2:], memory[:2])]


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    width, tokens, repeats = (64, 64, 1) if options.smoke else (WIDTH, TOKENS, REPEATS)
    lengths = LENGTHS[:1] if options.smoke else LENGTHS
    print("RoFormerV2: forwards, step; gated units: forwards, step")
    figures = report.by_seed(
        options, lambda: [measure(width, n, tokens, repeats) for n in lengths]
    )
    names = ("time, forwards", "time, step", "memory, forwards", "memory, step")
    rows = {name: figures[..., i] for i, name in enumerate(names)}
    report.print_table(["gated / RoFormerV2", *lengths], rows, "{:.2f}")
    report.save(
        options, "gau_speed", "length", "gated / RoFormerV2", lengths, rows, log_x=True
    )


if __name__ == "__main__":
    main()
