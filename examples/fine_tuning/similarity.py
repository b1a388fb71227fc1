"""Do two sentences mean the same? Both are read together.

Data: lines `sentence<TAB>sentence<TAB>label` with the labels 0 and 1, as in LCQMC,
    BQ and PAWS-X.
Command: python examples/fine_tuning/similarity.py --train TRAIN --dev DEV
    python examples/fine_tuning/similarity.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev, after the epoch that did best.
For vectors that can be stored and searched, see cosent.py and simcse.py.
"""

from tables import finish, fit_best, parse_arguments, read_table

import zoo

SMOKE = (
    ["今天天气好", "今天天气好", "他在看书", "他在看书"],
    ["今天天气不错", "明天开会", "他在读书", "猫在睡觉"],
    ["1", "0", "1", "0"],
)


def load_data(path):
    first, second, labels = SMOKE if path is None else read_table(path, 3)
    return (list(first), list(second)), list(labels)


def main(arguments=None):
    options = parse_arguments(__doc__, arguments, sequence_length=64)
    train, dev = load_data(options.train), load_data(options.dev)
    model = zoo.load(
        options.model,
        task="text_classifier",
        label_names=["0", "1"],
        sequence_length=[options.sequence_length // 2, options.sequence_length],
        **options.sizes,
    )
    return finish(model, options, "accuracy", fit_best(model, options, train, dev))


if __name__ == "__main__":
    main()
