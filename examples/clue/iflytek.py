"""CLUE's iflytek: which of 119 kinds of application is a long description about?

Task: text classification, from the vector at `[CLS]`.
Data: iflytek_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/iflytek.py --data FOLDER --model gau-alpha
    python examples/clue/iflytek.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 61.41, RoFormerV2* 60.87 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/iflytek.py.
"""

import sys

from classification import FUNCTIONS, build_classifier, write_splits
from fine_tune import Recipe, fine_tune
from records import Examples, labels_of, read_lines

LABELS = [str(number) for number in range(119)]
RECIPE = Recipe(
    task="iflytek",
    sequence_length=128,
    batch_size=32,
    epochs=10,
    metric="accuracy",
    full=(12133, 2599),
)
TEST, SUBMISSION = "test.json", "iflytek_predict.json"
SMOKE = [
    {"label": "0", "sentence": "一键叫车，司机几分钟就到，路上可以看到车在哪里。"},
    {"label": "17", "sentence": "百万首歌曲随心听，歌词同步显示，还能下载。"},
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
