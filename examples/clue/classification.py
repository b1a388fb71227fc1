"""What the scripts of this folder share whose task is one label per text or pair."""

from collections import Counter

from records import Examples, as_lines, labels_of

import zoo


def build_classifier(options, label_names):
    """A `TextClassifier` that reads `[CLS]`, as the authors', or `--pooling`."""
    return zoo.load(
        options.model,
        weights=options.weights,
        task="text_classifier",
        label_names=label_names,
        sequence_length=options.buckets,
        pooling=options.pooling,
        **options.sizes,
    )


def predicted_labels(model, examples, options):
    """The likeliest label of each example."""
    logits = model.predict(examples.x, batch_size=options.batch_size, verbose=0)
    return [model.label_names[number] for number in logits.argmax(-1)]


def accuracy(labels, examples):
    """Share of right labels in per cent, as the figures of a run."""
    right = sum(a == b for a, b in zip(labels, examples.y, strict=True))
    return {"accuracy": 100 * right / len(labels)}


def majority_accuracy(train, examples):
    """Score of the label that most training examples have."""
    label = Counter(train.y).most_common(1)[0][0]
    return accuracy([label] * len(examples), examples)


def label_lines(labels, examples):
    """The text of a submission."""
    return as_lines(
        {"id": str(record.get("id", number)), "label": label}
        for number, (label, record) in enumerate(
            zip(labels, examples.records, strict=True)
        )
    )


PAIR = {"sentence1": str, "sentence2": str}


def pairs_of(records, path, label_names):
    """Examples of records that have the fields of `PAIR`."""
    texts = tuple([record[name] for record in records] for name in PAIR)
    return Examples(texts, labels_of(records, path, label_names), records)


def write_splits(folder, records):
    """The files of a smoke run: the same records in each split."""
    for split in ("train", "dev", "test"):
        (folder / f"{split}.json").write_text(as_lines(records), encoding="utf-8")


# What a script calls predict, score, baseline and submission.
FUNCTIONS = predicted_labels, accuracy, majority_accuracy, label_lines
