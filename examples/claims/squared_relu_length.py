"""Gated attention units at other lengths than they were trained at, by normalizer.

Task: masked tokens of a Markov chain; trained at length 128, tested from 16 to 1024.
Claim: relu²/n keeps its accuracy at shorter rows if n stays the length of training,
    and loses it if n follows the row; softmax is the most robust, and scaling its
    logits by log n at prediction (logn†) helps beyond the length of training.
Command: python examples/claims/squared_relu_length.py --output docs/claims
    python examples/claims/squared_relu_length.py --smoke
Hardware: two CPU cores, about 1 minute for each of 4 systems and 3 seeds.
Score: accuracy at the masks.
Source: https://kexue.fm/archives/9019, https://kexue.fm/archives/9706 (logn†)
"""

import keras
import numpy as np
import report
from markov_text import MarkovText

from bert4keras3.layers import (
    EntropyInvariantSoftmax,
    PredictionLogSoftmax,
    SquaredReLU,
)
from bert4keras3.models import GAUAlphaBackbone

TRAIN_LENGTH, LENGTHS = 128, (16, 32, 64, 128, 256, 512, 1024)
BATCH_SIZE, TEST_TOKENS = 32, 16384
# Name -> normalizer while training, and at prediction if another.
SYSTEMS = {
    "relu²/n, n of the row": (SquaredReLU(),),
    "relu²/n, n fixed": (SquaredReLU(length=TRAIN_LENGTH),),
    "softmax": ("softmax",),
    "softmax, logn† at prediction": (
        "softmax",
        PredictionLogSoftmax(base_length=TRAIN_LENGTH),
    ),
    "log n scaled softmax": (
        EntropyInvariantSoftmax(base_length=TRAIN_LENGTH, min_length=1),
    ),
}


def build(vocabulary_size, normalizer):
    backbone = GAUAlphaBackbone(
        vocabulary_size,
        num_layers=4,
        hidden_dim=64,
        intermediate_dim=128,
        key_dim=64,
        dropout=0,
        attention_dropout=0,
        normalizer=normalizer,
    )
    inputs = keras.Input((None,), dtype="int32")
    logits = keras.layers.Dense(vocabulary_size)(backbone({"token_ids": inputs}))
    return keras.Model(inputs, logits)


def accuracy(model, text, length):
    batch_size = TEST_TOKENS // length
    token_ids, targets, weights = text.masked(batch_size, length)
    guesses = np.concatenate(
        [
            np.argmax(model.predict_on_batch(token_ids[at : at + 8]), -1)
            for at in range(0, batch_size, 8)
        ]
    )
    return float((weights * (guesses == targets)).sum() / weights.sum())


def train(steps, seed, normalizer):
    text = MarkovText(seed=seed)
    model = build(text.vocabulary_size, normalizer)
    schedule = keras.optimizers.schedules.PolynomialDecay(3e-3, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        jit_compile=keras.backend.backend() != "torch",
    )
    for _ in range(steps):
        model.train_on_batch(*text.masked(BATCH_SIZE, TRAIN_LENGTH))
    return model, text


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    steps = 5 if options.smoke else 1000
    lengths = LENGTHS[:2] if options.smoke else LENGTHS
    # In short: a softmax, and the other one that it is tested with.
    systems = dict(list(SYSTEMS.items())[2:4]) if options.smoke else SYSTEMS
    curves = {name: [] for name in systems}
    for seed in range(options.seeds):
        trained = {}
        for name, (normalizer, *at_prediction) in systems.items():
            keras.utils.set_random_seed(seed)
            key = str(normalizer)
            if key not in trained:
                trained[key] = train(steps, seed, normalizer)
            model, text = trained[key]
            if at_prediction:
                other = build(text.vocabulary_size, *at_prediction)
                other.set_weights(model.get_weights())
                model = other
            curves[name].append([accuracy(model, text, n) for n in lengths])
    curves = {name: np.array(values) for name, values in curves.items()}
    report.print_table(["system", *lengths], curves)
    report.save(
        options,
        "squared_relu_length",
        "length of the row (trained at 128)",
        "accuracy at the masks",
        lengths,
        curves,
        log_x=True,
    )


if __name__ == "__main__":
    main()
