"""CLUE's CMNLI: does the second sentence follow from the first?

Task: classification of pairs, from the vector at `[CLS]`.
Data: cmnli_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/cmnli.py --data FOLDER --model gau-alpha
    python examples/clue/cmnli.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 81.82, RoFormerV2* 80.34 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/cmnli.py.
"""

import sys

from classification import (
    FUNCTIONS,
    PAIR,
    build_classifier,
    pairs_of,
    write_splits,
)
from fine_tune import Recipe, fine_tune
from records import read_lines

LABELS = ["entailment", "neutral", "contradiction"]
RECIPE = Recipe(
    task="cmnli",
    sequence_length=128,
    batch_size=32,
    epochs=10,
    metric="accuracy",
    full=(391782, 12241),
)
TEST, SUBMISSION = "test.json", "cmnli_predict.json"
SMOKE = [
    ("他在公园里跑步", "他在户外", "entailment"),
    ("他在公园里跑步", "他在睡觉", "contradiction"),
    ("他在公园里跑步", "他喜欢早上跑步", "neutral"),
]


def write_smoke(folder):
    names = *PAIR, "label"
    records = [dict(zip(names, row, strict=True)) for row in SMOKE] * 6
    write_splits(folder, records)


def load_data(folder, split):
    path = folder / f"{split}.json"
    records = read_lines(path, PAIR)
    # "-" marks pairs on which the annotators did not agree; they are nobody's to learn.
    records = [record for record in records if record.get("label") != "-"]
    return pairs_of(records, path, LABELS)


def build_model(options):
    return build_classifier(options, LABELS)


predict, score, baseline, submission = FUNCTIONS


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
