"""Is a review good or bad? One text, one label.

Data: lines `text<TAB>label`, such as sentiment.zip of bert4keras's examples.
Command: python examples/fine_tuning/sentiment.py --train TRAIN --dev DEV
    python examples/fine_tuning/sentiment.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev, after the epoch that did best.
"""

from tables import finish, fit_best, parse_arguments, read_table

import zoo

SMOKE = (
    ["很好看，值得一读", "质量很差", "服务周到", "太贵了，不值"],
    ["1", "0", "1", "0"],
)


def load_data(path):
    texts, labels = SMOKE if path is None else read_table(path, 2)
    return list(texts), list(labels)


def build_model(options, label_names):
    length = options.sequence_length
    return zoo.load(
        options.model,
        task="text_classifier",
        label_names=label_names,
        head_dropout=0.1,
        # Short texts take a step of half the length; each length is compiled once.
        sequence_length=[length // 2, length],
        **options.sizes,
    )


def main(arguments=None):
    options = parse_arguments(__doc__, arguments)
    train, dev = load_data(options.train), load_data(options.dev)
    model = build_model(options, sorted(set(train[1])))
    return finish(model, options, "accuracy", fit_best(model, options, train, dev))


if __name__ == "__main__":
    main()
