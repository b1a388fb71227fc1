"""Is a review good or bad? One text, one label.

Data: lines `text<TAB>label`, such as sentiment.zip of bert4keras's examples.
Command: python examples/fine_tuning/sentiment.py --train TRAIN --dev DEV
    python examples/fine_tuning/sentiment.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev, after the epoch that did best.
"""

import keras
from tables import compile_task, finish, parse_arguments, read_table

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
    compile_task(model, options)
    best = keras.callbacks.EarlyStopping(
        "val_sparse_categorical_accuracy",
        mode="max",
        patience=options.epochs,
        restore_best_weights=True,
    )
    model.fit(
        *train,
        batch_size=options.batch_size,
        epochs=options.epochs,
        validation_data=dev,
        callbacks=[best],
        verbose=2,
    )
    figures = model.evaluate(*dev, verbose=0, return_dict=True)
    return finish(model, options, "accuracy", figures["sparse_categorical_accuracy"])


if __name__ == "__main__":
    main()
