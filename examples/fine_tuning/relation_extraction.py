"""Who is what of whom: relations between entities, by GPLinker.

Data: one JSON object per line, as in DuIE: {"text": ..., "spo_list": [{"subject": ...,
    "predicate": ..., "object": ...}]}; an object may be a dict with "@value".
Command: python examples/fine_tuning/relation_extraction.py --train TRAIN --dev DEV
    python examples/fine_tuning/relation_extraction.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: F1 of exact relations on dev, by their words.
Source: https://kexue.fm/archives/8888.
"""

import json

from tables import compile_task, finish, parse_arguments

import zoo
from bert4keras3.metrics.entities import entity_scores

SMOKE = [
    ("小明生于北京", [("小明", "出生地", "北京")]),
    ("《春》的作者是小红", [("春", "作者", "小红")]),
]


def load_data(path):
    """Texts, and for each its `(subject, predicate, object)`, in words."""
    if path is None:
        return [text for text, _ in SMOKE], [found for _, found in SMOKE]
    texts, relations = [], []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            record = json.loads(line)
            if not {"text", "spo_list"} <= set(record):
                raise ValueError(
                    f"{path}, line {number}: expected the fields text and spo_list, "
                    f"received {', '.join(record)}."
                )
            texts.append(record["text"])
            relations.append([words_of(each) for each in record["spo_list"]])
    return texts, relations


def words_of(relation):
    value = relation["object"]
    value = value["@value"] if isinstance(value, dict) else value
    return relation["subject"], relation["predicate"], value


def with_places(text, relations):
    """Relations by the places of their words; those not in the text are left out."""
    found = []
    for subject, predicate, value in relations:
        first, second = text.find(subject), text.find(value)
        if min(first, second) >= 0:
            spans = (first, first + len(subject)), (second, second + len(value))
            found.append((spans[0], predicate, spans[1]))
    return found


def as_tuples(relations):
    """With the predicate last, where `entity_scores` expects the kind."""
    return {(subject, value, predicate) for subject, predicate, value in relations}


def main(arguments=None):
    options = parse_arguments(__doc__, arguments, epochs=20, batch_size=16)
    train, dev = load_data(options.train), load_data(options.dev)
    names = sorted({predicate for found in train[1] for _, predicate, _ in found})
    model = zoo.load(
        options.model,
        task="relation_extractor",
        label_names=names,
        sequence_length=options.sequence_length,
        **options.sizes,
    )
    compile_task(model, options)
    labels = [with_places(*each) for each in zip(*train, strict=True)]
    model.fit(
        train[0],
        labels,
        batch_size=options.batch_size,
        epochs=options.epochs,
        verbose=2,
    )
    extracted = [
        {(each["subject"], each["object"], each["predicate"]) for each in found}
        for found in model.extract(dev[0], batch_size=options.batch_size)
    ]
    scores = entity_scores([as_tuples(found) for found in dev[1]], extracted)
    return finish(model, options, "f1", scores["f1"])


if __name__ == "__main__":
    main()
