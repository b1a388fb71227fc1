"""Vectors of sentences from scored pairs, by the loss CoSENT.

Data: lines `sentence<TAB>sentence<TAB>score`, where more is more alike: 0 and 1, or
    0 to 5 as in STS-B.
Command: python examples/fine_tuning/cosent.py --train TRAIN --dev DEV
    python examples/fine_tuning/cosent.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: Spearman's correlation of cosine and score on dev, before and after.
Source: https://kexue.fm/archives/8847.
"""

import numpy as np
from scipy.stats import spearmanr
from tables import compile_task, finish, parse_arguments, read_table

import zoo
from bert4keras3.embedding_losses import CoSENTLoss

SMOKE = (
    ["今天天气好", "今天天气好", "他在看书", "他在看书"],
    ["今天天气不错", "明天开会", "他在读书", "猫在睡觉"],
    ["4", "1", "5", "0"],
)


def load_data(path):
    first, second, scores = SMOKE if path is None else read_table(path, 3)
    return (list(first), list(second)), [float(score) for score in scores]


def correlation(model, pairs, scores):
    """Of the cosines of pairs with their scores, by ranks."""
    first, second = (model.embed(column) for column in pairs)
    return float(spearmanr(np.sum(first * second, axis=-1), scores).statistic)


def main(arguments=None):
    options = parse_arguments(__doc__, arguments, sequence_length=64)
    train, dev = load_data(options.train), load_data(options.dev)
    model = zoo.load(
        options.model,
        task="text_embedder",
        pooling="mean",
        sequence_length=options.sequence_length,
        **options.sizes,
    )
    before = correlation(model, *dev)
    compile_task(model, options, loss=CoSENTLoss())
    model.fit(*train, batch_size=options.batch_size, epochs=options.epochs, verbose=2)
    print(f"before: {before:.4f}")
    return finish(model, options, "spearman", correlation(model, *dev))


if __name__ == "__main__":
    main()
