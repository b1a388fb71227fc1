"""CLUE's CLUENER: names of ten kinds, and where they stand.

Task: entities by an efficient global pointer.
Data: cluener_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/cluener.py --data FOLDER --model gau-alpha
    python examples/clue/cluener.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: F1 of exact entities on dev, all kinds together; GAU-α 80.01, RoFormerV2* 81.08
    (https://kexue.fm/archives/9052). The official macro F1 is in the results too.
Recipe: ZhuiyiTechnology/roformer-v2, clue/cluener.py.
"""

import sys

from fine_tune import Recipe, fine_tune
from records import Examples, as_lines, read_lines

import zoo
from bert4keras3.metrics.entities import cluener_entities, entity_scores

KINDS = (
    "address book company game government movie name organization position scene"
).split()
RECIPE = Recipe(
    task="cluener",
    sequence_length=256,
    batch_size=32,
    epochs=10,
    metric="f1",
    full=(10748, 1343),
)
TEST, SUBMISSION = "test.json", "cluener_predict.json"
SMOKE = [
    {
        "text": "张三在华夏银行工作",
        "label": {"name": {"张三": [[0, 1]]}, "company": {"华夏银行": [[3, 6]]}},
    },
    {"text": "我在西湖遇到李四", "label": {"scene": {"西湖": [[2, 3]]}}},
]


def write_smoke(folder):
    for split in ("train", "dev", "test"):
        (folder / f"{split}.json").write_text(as_lines(SMOKE * 8), encoding="utf-8")


def entities_of(record, where):
    """`(start, end, kind)` with half-open places; CLUENER's ends are inclusive."""
    entities = []
    for kind, found in record["label"].items():
        if kind not in KINDS:
            raise ValueError(f"{where}: {kind!r} is none of {', '.join(KINDS)}.")
        for words, places in found.items():
            for start, last in places:
                if record["text"][start : last + 1] != words:
                    raise ValueError(
                        f"{where}: {words!r} does not stand at {start} to {last}, but "
                        f"{record['text'][start : last + 1]!r}."
                    )
                entities.append((start, last + 1, kind))
    return entities


def load_data(folder, split):
    path = folder / f"{split}.json"
    fields = {"text": str} if split == "test" else {"text": str, "label": dict}
    records = read_lines(path, fields)
    labels = None
    if split != "test":
        labels = [
            entities_of(record, f"{path}, record {number}")
            for number, record in enumerate(records, 1)
        ]
    return Examples([record["text"] for record in records], labels, records)


def build_model(options):
    return zoo.load(
        options.model,
        weights=options.weights,
        task="entity_recognizer",
        label_names=KINDS,
        pointer="efficient",
        sequence_length=options.buckets,
        **options.sizes,
    )


def predict(model, examples, options):
    return [
        [(each["start"], each["end"], each["type"]) for each in found]
        for found in model.recognize(examples.x, batch_size=options.batch_size)
    ]


def as_label(text, entities):
    """Entities as CLUENER writes them."""
    label = {}
    for start, end, kind in entities:
        places = label.setdefault(kind, {}).setdefault(text[start:end], [])
        places.append([start, end - 1])
    return label


def score(entities, examples):
    scores = entity_scores(examples.y, entities, KINDS)
    official = entity_scores(
        [cluener_entities(record["label"]) for record in examples.records],
        [
            cluener_entities(as_label(text, found))
            for text, found in zip(examples.x, entities, strict=True)
        ],
        KINDS,
    )
    figures = {name: scores[name] for name in ("f1", "precision", "recall")}
    figures["official_macro_f1"] = official["macro_f1"]
    return {name: 100 * value for name, value in figures.items()}


def baseline(train, examples):
    """Words that are an entity in the training split, wherever they stand."""
    words = {
        text[start:end]: kind
        for text, entities in zip(train.x, train.y, strict=True)
        for start, end, kind in entities
    }
    found = [
        [
            (start, end, words[text[start:end]])
            for start in range(len(text))
            for end in range(start + 2, min(start + 12, len(text)) + 1)
            if text[start:end] in words
        ]
        for text in examples.x
    ]
    return score(found, examples)


def submission(entities, examples):
    return as_lines(
        {**record, "label": as_label(record["text"], found)}
        for record, found in zip(examples.records, entities, strict=True)
    )


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
