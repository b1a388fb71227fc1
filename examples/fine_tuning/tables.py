"""What the scripts of this folder share: arguments, tab-separated files."""

import argparse

import keras


def parse_arguments(doc, arguments=None, **defaults):
    """`--train`, `--dev`, `--model` and so on; `--smoke` sets a small, short run."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    add = parser.add_argument
    add("--train", help="file to train on")
    add("--dev", help="file to score")
    add("--model", default="gau-alpha", help="a name of the zoo, or a path")
    add("--epochs", type=int, default=defaults.pop("epochs", 5))
    add("--batch-size", type=int, default=defaults.pop("batch_size", 32))
    add("--sequence-length", type=int, default=defaults.pop("sequence_length", 128))
    add("--learning-rate", type=float, default=defaults.pop("learning_rate", 2e-5))
    add("--seed", type=int, default=0)
    add("--output", help="file to save the task in, such as task.keras")
    add("--smoke", action="store_true", help="built-in data, seconds; proves nothing")
    for name, (default, help_text) in defaults.items():
        add(f"--{name.replace('_', '-')}", default=default, help=help_text)
    options = parser.parse_args(arguments)
    options.sizes = {}
    if options.smoke:
        options.model, options.epochs, options.batch_size = "gau-alpha-tiny", 2, 4
        options.sequence_length = 32
        sizes = dict(num_layers=1, hidden_dim=32, intermediate_dim=64, key_dim=16)
        options.sizes = dict(weights=None, **sizes)
    elif not (options.train and options.dev):
        parser.error("give --train and --dev, or --smoke for a few built-in records")
    keras.utils.set_random_seed(options.seed)
    return options


def read_table(path, columns):
    """Columns of a file with one record per line and tabs between its fields.

    Args:
        path: the file.
        columns: how many there are.

    Raises:
        ValueError: no record, or a line with another number of fields.
    """
    rows = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\n").split("\t")
            if not line.strip():
                continue
            if len(fields) != columns:
                raise ValueError(
                    f"{path}, line {number}: expected {columns} fields with tabs "
                    f"between them, received {len(fields)}: {line!r:.80}."
                )
            rows.append(fields)
    if not rows:
        raise ValueError(f"{path} has no record.")
    return [list(column) for column in zip(*rows, strict=True)]


def compile_task(model, options, **arguments):
    """Adam at `--learning-rate`; XLA but for short runs."""
    jit = not options.smoke and keras.backend.backend() != "torch"
    optimizer = keras.optimizers.Adam(options.learning_rate)
    model.compile(optimizer, jit_compile=jit, **arguments)


def fit_best(model, options, train, dev):
    """Train a classifier, keep its best epoch, and return its accuracy on `dev`."""
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
    return figures["sparse_categorical_accuracy"]


def finish(model, options, name, value):
    """Save the task if asked to, and print a line that a script can read."""
    if options.output:
        model.save(options.output)
    print(f"{name}: {value:.4f}")
    return value
