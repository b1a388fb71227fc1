"""CLUE's AFQMC: do two questions to a bank's service ask the same?

Task: classification of pairs, from the vector at `[CLS]`.
Data: afqmc_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/afqmc.py --data FOLDER --model gau-alpha
    python examples/clue/afqmc.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 74.17, RoFormerV2* 72.75 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/afqmc.py.
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

LABELS = ["0", "1"]
RECIPE = Recipe(
    task="afqmc",
    sequence_length=128,
    batch_size=32,
    epochs=10,
    metric="accuracy",
    full=(34334, 4316),
)
TEST, SUBMISSION = "test.json", "afqmc_predict.json"
SMOKE = [
    ("怎么提前还款", "可以提前把钱还清吗", "1"),
    ("怎么提前还款", "额度怎么提高", "0"),
]


def write_smoke(folder):
    names = *PAIR, "label"
    records = [dict(zip(names, row, strict=True)) for row in SMOKE] * 6
    write_splits(folder, records)


def load_data(folder, split):
    path = folder / f"{split}.json"
    records = read_lines(path, PAIR)
    return pairs_of(records, path, LABELS)


def build_model(options):
    return build_classifier(options, LABELS)


predict, score, baseline, submission = FUNCTIONS


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
