"""CLUE's CSL: are all of the given keywords those of the abstract?

Task: classification of pairs, from the vector at `[CLS]`.
Data: csl_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/csl.py --data FOLDER --model gau-alpha
    python examples/clue/csl.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 85.67, RoFormerV2* 84.67 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/csl.py.
"""

import sys

from classification import FUNCTIONS, build_classifier, write_splits
from fine_tune import Recipe, fine_tune
from records import Examples, labels_of, read_lines

LABELS = ["0", "1"]
RECIPE = Recipe(
    task="csl",
    sequence_length=128,
    batch_size=32,
    epochs=10,
    metric="accuracy",
    full=(20000, 3000),
)
TEST, SUBMISSION = "test.json", "csl_predict.json"
SMOKE = [
    (["轮作", "土壤"], "本文研究轮作对土壤肥力的影响，结果表明三年轮作效果最好。", "1"),
    (["卫星", "遥感"], "本文研究轮作对土壤肥力的影响，结果表明三年轮作效果最好。", "0"),
]


def write_smoke(folder):
    names = "keyword", "abst", "label"
    records = [dict(zip(names, row, strict=True)) for row in SMOKE] * 6
    write_splits(folder, records)


def load_data(folder, split):
    path = folder / f"{split}.json"
    records = read_lines(path, {"keyword": list, "abst": str})
    keywords = ["；".join(record["keyword"]) for record in records]
    abstracts = [record["abst"] for record in records]
    return Examples((keywords, abstracts), labels_of(records, path, LABELS), records)


def build_model(options):
    return build_classifier(options, LABELS)


predict, score, baseline, submission = FUNCTIONS


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
