"""CLUE's WSC: does a pronoun mean the person or thing that is named?

Task: text classification, from the vector at `[CLS]`.
Data: cluewsc2020_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/wsc.py --data FOLDER --model gau-alpha
    python examples/clue/wsc.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 79.93, RoFormerV2* 80.92 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/wsc.py.
"""

import sys

from classification import FUNCTIONS, build_classifier, write_splits
from fine_tune import Recipe, fine_tune
from records import Examples, check_fields, labels_of, read_lines

LABELS = ["false", "true"]
RECIPE = Recipe(
    task="wsc",
    sequence_length=128,
    batch_size=32,
    epochs=30,
    metric="accuracy",
    full=(1244, 304),
)
TEST, SUBMISSION = "test.json", "cluewsc11_predict.json"
SPANS = {"span1_index": int, "span2_index": int, "span1_text": str, "span2_text": str}
SMOKE = [
    ("小明把书还给小红，因为她要用。", (6, "小红"), (11, "她"), "true"),
    ("小明把书还给小红，因为她要用。", (0, "小明"), (11, "她"), "false"),
]


def write_smoke(folder):
    records = [
        {
            "text": text,
            "target": {
                **{"span1_index": one[0], "span1_text": one[1]},
                **{"span2_index": two[0], "span2_text": two[1]},
            },
            "label": label,
        }
        for text, one, two, label in SMOKE * 8
    ]
    write_splits(folder, records)


def marked(text, target):
    """The text with `[[` and `]]` round both spans."""
    spans = [(target[f"span{n}_index"], target[f"span{n}_text"]) for n in (1, 2)]
    # From the back, so that the places before stay right.
    for start, words in sorted(spans, reverse=True):
        end = start + len(words)
        text = f"{text[:start]}[[{text[start:end]}]]{text[end:]}"
    return text


def load_data(folder, split):
    path = folder / f"{split}.json"
    records = read_lines(path, {"text": str, "target": dict})
    for number, record in enumerate(records, 1):
        check_fields(record["target"], SPANS, f"{path}, target of record {number}")
    texts = [marked(record["text"], record["target"]) for record in records]
    return Examples(texts, labels_of(records, path, LABELS), records)


def build_model(options):
    return build_classifier(options, LABELS)


predict, score, baseline, submission = FUNCTIONS


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
