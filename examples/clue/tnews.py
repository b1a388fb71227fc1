"""CLUE's tnews: which of 15 topics is a headline about?

Task: text classification, from the vector at `[CLS]`.
Data: tnews_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/tnews.py --data FOLDER --model gau-alpha
    python examples/clue/tnews.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 57.76, RoFormerV2* 56.54 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/tnews.py.
"""

import sys

from classification import FUNCTIONS, build_classifier, write_splits
from fine_tune import Recipe, fine_tune
from records import Examples, labels_of, read_lines

LABELS = [str(number) for number in range(100, 117) if number not in (105, 111)]
RECIPE = Recipe(
    task="tnews",
    sequence_length=128,
    batch_size=32,
    epochs=10,
    metric="accuracy",
    full=(53360, 10000),
)
TEST, SUBMISSION = "test.json", "tnews11_predict.json"
SMOKE = [
    {"label": "103", "sentence": "主队最后一分钟进球，拿下本赛季第一场胜利"},
    {"label": "109", "sentence": "新手机下月发布，屏幕更大，电池更耐用"},
]


def write_smoke(folder):
    write_splits(folder, SMOKE * 8)


def load_data(folder, split):
    path = folder / f"{split}.json"
    records = read_lines(path, {"sentence": str})
    texts = [record["sentence"] for record in records]
    return Examples(texts, labels_of(records, path, LABELS), records)


def build_model(options):
    return build_classifier(options, LABELS)


predict, score, baseline, submission = FUNCTIONS


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
