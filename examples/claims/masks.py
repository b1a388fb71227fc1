"""Masks of a Transformer: decoder against prefix, and both ways against triangles.

Task: reverse and sort 12 symbols, the source in front and the loss on the target only,
    with the source read from left to right or both ways; and masked tokens of a Markov
    chain, length 32, read both ways or through triangular masks.
Claim: reading the source both ways (UniLM) is no better than a causal mask (GPT); an
    encoder that mixes a forward and a backward mask, by heads or by layers, is a little
    better than one that reads both ways at once.
Command: KERAS_BACKEND=jax python examples/claims/masks.py --output docs/claims
    python examples/claims/masks.py --smoke
Hardware: one CPU core, about 25 seconds for each mask, task and seed.
Score: loss on fresh rows while training; the same seed gives the same start and the
    same rows to each mask, so that differences of pairs are printed too.
Source: https://kexue.fm/archives/9529
"""

import keras
import numpy as np
import report
from markov_text import MarkovText

from bert4keras3.models import RoFormerV2Backbone

SYMBOLS, LENGTH, ROWS, STEPS, POINTS = 10, 12, 32, 1000, 10
SEPARATOR, FIRST = 1, 2
SEQUENCE_TASKS = {
    "reverse": lambda source: source[:, ::-1],
    "sort": lambda source: np.sort(source, 1),
}
MASKED = "masked tokens"
SEQUENCE_MASKS = ("causal", "prefix")
ENCODER_MASKS = ("bidirectional", "half_heads", "alternate_layers")


def sequence_rows(rule, rng, rows):
    """Rows of `source, SEPARATOR, target`, what follows each token, and its weight."""
    source = rng.integers(SYMBOLS, size=(rows, LENGTH)) + FIRST
    target = rule(source)
    separator = np.full((rows, 1), SEPARATOR)
    tokens = np.concatenate([source, separator, target[:, :-1]], 1)
    answers = np.concatenate([source, target], 1)
    weights = np.repeat([[0.0, 1.0]], LENGTH, 1).repeat(rows, 0)
    return tokens, answers, weights


def draw(task, rng, rows):
    """Inputs, answers and weights of a batch."""
    if task in SEQUENCE_TASKS:
        tokens, answers, weights = sequence_rows(SEQUENCE_TASKS[task], rng, rows)
        segments = np.cumsum(tokens == SEPARATOR, 1)  # 1 is the target, for each mask
    else:
        text = MarkovText()  # the same chain for all seeds
        text.rng = rng
        tokens, answers, weights = text.masked(rows, 32)
        segments = np.zeros_like(tokens)
    inputs = {
        "token_ids": tokens.astype("int32"),
        "segment_ids": segments.astype("int32"),
    }
    return inputs, answers, weights.astype("float32")


def build(vocabulary_size, mask, steps):
    backbone = RoFormerV2Backbone(
        vocabulary_size,
        num_layers=2,
        num_heads=4,
        hidden_dim=48,
        intermediate_dim=192,
        dropout=0,
        attention_dropout=0,
        attention=mask,
    )
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids")
    }
    logits = keras.layers.Dense(vocabulary_size)(backbone(inputs))
    model = keras.Model(inputs, logits)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps), global_clipnorm=1.0
        ),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        # A single step is not worth the compilation.
        jit_compile=steps > 1 and keras.backend.backend() != "torch",
    )
    return model


def losses(task, mask, steps, points):
    """Loss on fresh rows at `points` moments of the training."""
    rng, fresh = np.random.default_rng(np.random.randint(2**31)).spawn(2)
    symbols = SYMBOLS if task in SEQUENCE_TASKS else MarkovText().num_tokens
    model = build(FIRST + symbols, mask, steps)
    test_rows = draw(task, fresh, 1024)
    curve = []
    for step in range(1, steps + 1):
        model.train_on_batch(*draw(task, rng, ROWS))
        if step % (steps // points) == 0:
            model.reset_metrics()
            curve.append(float(model.test_on_batch(*test_rows)))
            model.reset_metrics()
    return curve


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    steps, points = (1, 1) if options.smoke else (STEPS, POINTS)
    x = np.arange(1, points + 1) * (steps // points)
    for task in ("sort", MASKED) if options.smoke else (*SEQUENCE_TASKS, MASKED):
        masks = SEQUENCE_MASKS if task in SEQUENCE_TASKS else ENCODER_MASKS
        curves = {
            mask: report.by_seed(
                options, lambda t=task, m=mask: losses(t, m, steps, points)
            )
            for mask in masks[: 2 if options.smoke else None]
        }
        report.print_table([f"{task}, step", *x], curves, "{:.4f}")
        first, *others = curves
        pairs = {f"{name} - {first}": curves[name] - curves[first] for name in others}
        report.print_table([f"{task}, pairs", *x], pairs, "{:+.4f}")
        name = f"masks_{task.replace(' ', '_')}"
        report.save(options, name, "step", "loss", x, curves)


if __name__ == "__main__":
    main()
