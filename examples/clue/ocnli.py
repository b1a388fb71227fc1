"""CLUE's OCNLI: inference between sentences written in Chinese.

Task: classification of pairs, from the vector at `[CLS]`.
Data: ocnli_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/ocnli.py --data FOLDER --model gau-alpha
    python examples/clue/ocnli.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 75.86, RoFormerV2* 75.36 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/ocnli.py.
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
    task="ocnli",
    sequence_length=128,
    batch_size=32,
    epochs=10,
    metric="accuracy",
    full=(50437, 3000),
)
TEST, SUBMISSION = "test.json", "ocnli_50k_predict.json"
SMOKE = [
    ("会议下午三点开始", "会议在下午", "entailment"),
    ("会议下午三点开始", "会议取消了", "contradiction"),
    ("会议下午三点开始", "会议很重要", "neutral"),
]


def write_smoke(folder):
    names = *PAIR, "label"
    records = [dict(zip(names, row, strict=True)) for row in SMOKE] * 6
    write_splits(folder, records)


def load_data(folder, split):
    names = [
        f"{split}.50k.json",
        f"{split}.json",
        f"{split}.30k.json",
        f"{split}.10k.json",
    ]
    path = next((folder / n for n in names if (folder / n).exists()), folder / names[1])
    records = read_lines(path, PAIR)
    # "-" marks pairs on which the annotators did not agree; they are nobody's to learn.
    records = [record for record in records if record.get("label") != "-"]
    return pairs_of(records, path, LABELS)


def build_model(options):
    return build_classifier(options, LABELS)


predict, score, baseline, submission = FUNCTIONS


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
