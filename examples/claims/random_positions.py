"""Random positions while training: reading rows three times as long as any seen.

Task: four tasks of the Chomsky hierarchy, trained on strings of 1 to 20 symbols, tested
    on 21 to 60.
Claim: rotary positions break down right after the length of training; positions drawn
    at random, in order, carry over, and so do equally spaced ones with a random step
    (equal-mean positions), the better with log-n scaled logits.
Command: python examples/claims/random_positions.py --output docs/claims
    python examples/claims/random_positions.py --smoke
Hardware: two CPU cores, about 40 seconds for each task, system and seed.
Score: accuracy per answered symbol over all lengths that were not seen.
Source: https://kexue.fm/archives/9444, https://arxiv.org/abs/2305.16843
"""

import keras
import numpy as np
import report
from chomsky_tasks import TASKS, VOCABULARY_SIZE, batch

from bert4keras3.layers import (
    EntropyInvariantSoftmax,
    EqualMeanExponentialPositions,
    RandomPositions,
)
from bert4keras3.models import RoFormerV2Backbone

TRAIN_LENGTH, TEST_LENGTHS = 20, (10, 20, 25, 30, 40, 50, 60)
LOG_N = {"normalizer": EntropyInvariantSoftmax(2 * TRAIN_LENGTH, 1)}
RANDOM = {"position_sampler": RandomPositions(max_position=128)}
EQUAL_MEAN = {"position_sampler": EqualMeanExponentialPositions()}
SYSTEMS = {
    "rotary": {},
    "rotary, log n": LOG_N,
    "random positions": RANDOM,
    "random positions, log n": {**RANDOM, **LOG_N},
    "equal mean": EQUAL_MEAN,
    "equal mean, log n": {**EQUAL_MEAN, **LOG_N},
}


def build(**arguments):
    backbone = RoFormerV2Backbone(
        VOCABULARY_SIZE,
        num_layers=3,
        num_heads=4,
        hidden_dim=64,
        intermediate_dim=256,
        dropout=0,
        attention_dropout=0,
        **arguments,
    )
    token_ids = keras.Input((None,), dtype="int32")
    logits = keras.layers.Dense(VOCABULARY_SIZE)(backbone({"token_ids": token_ids}))
    model = keras.Model(token_ids, logits)
    model.compile(
        keras.optimizers.Adam(2e-3, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        jit_compile=keras.backend.backend() != "torch",
    )
    return model


def accuracy(model, task, length, rng):
    token_ids, answers, weights = batch(task, [length] * 128, rng)
    guesses = np.argmax(model.predict_on_batch(token_ids), -1)
    return float((weights * (guesses == answers)).sum() / weights.sum())


def train_and_test(task, steps, lengths, **arguments):
    rng = np.random.default_rng(int(np.random.randint(2**31)))
    model = build(**arguments)
    for _ in range(steps):
        # The longest is always there: one shape, one compilation.
        drawn = [TRAIN_LENGTH, *rng.integers(1, TRAIN_LENGTH + 1, size=31)]
        model.train_on_batch(*batch(task, drawn, rng))
    return [accuracy(model, task, length, rng) for length in lengths]


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    steps, lengths = (3, TEST_LENGTHS[:2]) if options.smoke else (600, TEST_LENGTHS)
    tasks = list(TASKS)[: 1 if options.smoke else None]
    systems = dict(list(SYSTEMS.items())[-1:]) if options.smoke else SYSTEMS
    for task in tasks:
        curves = {
            name: report.by_seed(
                options,
                lambda s=system, t=task: train_and_test(t, steps, lengths, **s),
            )
            for name, system in systems.items()
        }
        report.print_table([task, *lengths], curves)
        report.save(
            options,
            f"random_positions_{task}",
            "length of the string (trained up to 20)",
            "accuracy",
            lengths,
            curves,
        )


if __name__ == "__main__":
    main()
