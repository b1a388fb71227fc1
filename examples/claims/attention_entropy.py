"""Entropy of attention by length, with and without log-n scaled logits.

Task: rows of n normally distributed logits; the mean entropy of their softmax.
Claim: scaled by log n / log 512 (Attention-E), the entropy of a peaked attention hardly
    depends on n, where that of the plain softmax (Attention-O) grows like log n.
Command: python examples/claims/attention_entropy.py --output docs/claims
    python examples/claims/attention_entropy.py --smoke
Hardware: one CPU core, seconds.
Score: entropy in nats; at 512 both are equal by construction.
Source: https://kexue.fm/archives/8823, https://kexue.fm/archives/9034
"""

import keras
import numpy as np
import report
from keras import ops

from bert4keras3.layers.attention_normalizer import get

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
NORMALIZERS = {
    "softmax": "Attention-O",
    "entropy_invariant_softmax": "Attention-E",
    "natural_log_softmax": "natural log n",
}
DEVIATIONS = (1.0, 2.0, 3.0)
ROWS = 64


def entropy(normalizer, logits):
    """Mean entropy of the rows of `logits`, `(rows, n)`."""
    normalizer = get(normalizer)
    num_keys = ops.cast(logits.shape[-1], "float32")
    temperature = normalizer.temperature(num_keys)
    if temperature is not None:
        logits = logits * ops.convert_to_numpy(temperature)
    weights = normalizer(logits[:, None, None, :], num_keys)
    weights = np.asarray(ops.convert_to_numpy(weights), "float64")
    return float(-(weights * np.log(weights + 1e-30)).sum(-1).mean())


def curves(normalizer, deviation, lengths):
    seed = keras.random.SeedGenerator()
    return [
        entropy(
            normalizer,
            deviation * ops.convert_to_numpy(keras.random.normal((ROWS, n), seed=seed)),
        )
        for n in lengths
    ]


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    lengths = LENGTHS[:2] if options.smoke else LENGTHS
    rows = {
        f"{name}, deviation {deviation:g}": report.by_seed(
            options, lambda n=normalizer, d=deviation: curves(n, d, lengths)
        )
        for deviation in DEVIATIONS
        for normalizer, name in NORMALIZERS.items()
    }
    report.print_table(["logits", *lengths], rows, "{:.2f}")
    report.save(
        options,
        "attention_entropy",
        "number of keys",
        "entropy, nats",
        lengths,
        {name: row for name, row in rows.items() if not name.endswith("2")},
        log_x=True,
    )


if __name__ == "__main__":
    main()
