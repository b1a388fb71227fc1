"""Masked language models at longer rows than in training, by the scale of the logits.

Task: masked characters of Chinese text; trained on rows of 64, tested up to 1024.
Claim: with logits scaled by log n (Attention-E), accuracy falls later than with the
    plain softmax (Attention-O) when rows get longer than in training.
Command: python examples/claims/masked_lm_length.py --data FOLDER --output docs/claims
    python examples/claims/masked_lm_length.py --smoke
Hardware: two CPU cores, about 2 minutes for each of 3 systems and 3 seeds.
Score: accuracy at the masks, 15 % of the characters, the same text at every length.
Source: https://kexue.fm/archives/8823
"""

import functools

import numpy as np
import report
from language_model import ChineseText, build, train

from bert4keras3.layers import EntropyInvariantSoftmax, PredictionLogSoftmax
from bert4keras3.models import RoFormerV2Backbone

TRAIN_LENGTH, LENGTHS = 64, (64, 128, 256, 512, 1024)
MASK_RATE, TEST_CHARACTERS = 0.15, 32 * 1024
SIZES = {"num_layers": 3, "num_heads": 4, "hidden_dim": 64, "intermediate_dim": 256}
# The source trains at 64 and scales by log 512 all the same.
SYSTEMS = {
    "Attention-O": "softmax",
    "Attention-E, log 512": EntropyInvariantSoftmax(base_length=512, min_length=1),
    "Attention-E, log 64": EntropyInvariantSoftmax(TRAIN_LENGTH, min_length=1),
}
# Trained system -> what else it is tested with.
AT_PREDICTION = {"Attention-O": {"Attention-O, logn†": PredictionLogSoftmax(64)}}


def masked(rows, mask_id, rng):
    """Token ids with masks, the tokens, and 1.0 where a mask stands."""
    chosen = rng.random(rows.shape) < MASK_RATE
    return np.where(chosen, mask_id, rows), rows, chosen.astype("float32")


def new(text, normalizer):
    """A model with one token more than the text has: the mask."""
    return build(
        RoFormerV2Backbone,
        text.vocabulary_size + 1,
        normalizer=normalizer,
        attention="bidirectional",
        **SIZES,
    )


def accuracy(model, text, length):
    rng = np.random.default_rng(0)
    count = min(TEST_CHARACTERS, len(text.test)) // length
    rows = text.test[: count * length].reshape(count, length)
    right = total = 0.0
    for at in range(0, len(rows), 8):
        token_ids, targets, weights = masked(
            rows[at : at + 8], text.vocabulary_size, rng
        )
        guesses = model.predict_on_batch(token_ids).argmax(-1)
        right += (weights * (guesses == targets)).sum()
        total += weights.sum()
    return right / total


def run(text, normalizer, others, steps, lengths, batch_size=32):
    def batch(rng):
        starts = rng.integers(len(text.train) - TRAIN_LENGTH, size=batch_size)
        rows = text.train[starts[:, None] + np.arange(TRAIN_LENGTH)]
        return masked(rows, text.vocabulary_size, rng)

    model = new(text, normalizer)
    train(model, steps, batch)
    figures = [[accuracy(model, text, length) for length in lengths]]
    for other in others:
        changed = new(text, other)
        changed.set_weights(model.get_weights())
        figures.append([accuracy(changed, text, length) for length in lengths])
    return figures


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments, data=True)
    text = ChineseText(options.data)
    steps, lengths = (3, LENGTHS[:2]) if options.smoke else (1500, LENGTHS)
    curves = {}
    for name, normalizer in list(SYSTEMS.items())[: 1 if options.smoke else None]:
        others = AT_PREDICTION.get(name, {})
        figures = report.by_seed(
            options,
            functools.partial(
                run, text, normalizer, tuple(others.values()), steps, lengths
            ),
        )
        for at, tested in enumerate([name, *others]):
            curves[tested] = figures[:, at]
    report.print_table(["system", *lengths], curves)
    report.save(
        options,
        "masked_lm_length",
        f"length of the row (trained at {TRAIN_LENGTH})",
        "accuracy at the masks",
        lengths,
        curves,
        log_x=True,
    )


if __name__ == "__main__":
    main()
