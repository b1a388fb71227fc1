"""CLUE's ChID: which of ten idioms stands in each blank?

Task: multiple choice; each idiom is read between the text before the blank and the text
    after it. The blanks of one record get different idioms, with the best sum of
    scores.
Data: chid_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/chid.py --data FOLDER --model gau-alpha
    python examples/clue/chid.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 87.91, RoFormerV2* 85.09 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/chid.py.
"""

import re
import sys
from itertools import groupby

import numpy as np
from choices import accuracy, build_chooser, chance, choice_logits
from fine_tune import Recipe, fine_tune
from records import Examples, as_json, as_lines, read_json, read_lines
from scipy.optimize import linear_sum_assignment

RECIPE = Recipe(
    task="chid",
    sequence_length=64,
    batch_size=12,
    epochs=5,
    metric="accuracy",
    full=(577157, 23011),
    accumulation=2,
)
TEST, SUBMISSION = "test1.1.json", "chid11_predict.json"
BLANK, OTHER_BLANKS, NUM_CHOICES = re.compile(r"#idiom\d{6}#"), "_____", 10
CONTEXT = 56  # characters round a blank: 64 less an idiom and the special tokens
IDIOMS = (
    "一心一意 七上八下 画蛇添足 守株待兔 井底之蛙 "
    "雪中送炭 对牛弹琴 狐假虎威 亡羊补牢 半途而废"
)


def write_smoke(folder):
    record = {
        "content": [
            "他做事#idiom000001#，从不分心。",
            "学习不能#idiom000002#，要坚持。",
        ],
        "candidates": IDIOMS.split(),
    }
    for name in ("train.json", "dev.json", TEST):
        (folder / name).write_text(as_lines([record] * 4), encoding="utf-8")
    answers = as_json({"#idiom000001#": 0, "#idiom000002#": 9})
    for name in ("train_answer.json", "dev_answer.json"):
        (folder / name).write_text(answers, encoding="utf-8")


def around(text, blank):
    """The text before and after a blank, the longer side cut, away from the blank."""
    before, after = (
        BLANK.sub(OTHER_BLANKS, side)
        for side in (text[: blank.start()], text[blank.end() :])
    )
    surplus = max(0, len(before) + len(after) - CONTEXT)
    half = CONTEXT // 2
    keep = max(half, CONTEXT - len(after)) if surplus else len(before)
    before = before[-keep:]
    return before, after[: CONTEXT - len(before)]


def load_data(folder, split):
    path = folder / (TEST if split == "test" else f"{split}.json")
    groups = read_lines(path, {"content": list, "candidates": list})
    answers = {}
    if split != "test":
        answers = read_json(folder / f"{split}_answer.json", dict)
    texts, choices, labels, records = [], [], [], []
    for number, group in enumerate(groups, 1):
        if len(group["candidates"]) != NUM_CHOICES:
            raise ValueError(f"{path}, line {number}: not {NUM_CHOICES} candidates.")
        for text in group["content"]:
            for blank in BLANK.finditer(text):
                before, after = around(text, blank)
                texts.append(before)
                choices.append([(idiom, after) for idiom in group["candidates"]])
                records.append((number, blank.group()))
                if answers and blank.group() not in answers:
                    raise ValueError(
                        f"{path}, line {number}: {split}_answer.json has no answer "
                        f"for {blank.group()}."
                    )
                labels.append(answers.get(blank.group()))
    return Examples((texts, choices), labels if answers else None, records)


def build_model(options):
    return build_chooser(options, NUM_CHOICES)


def predict(model, examples, options):
    logits = choice_logits(model, examples, options)
    chosen = []
    for _, group in groupby(examples.records, key=lambda record: record[0]):
        rows = logits[len(chosen) : len(chosen) + len(list(group))]
        blanks, idioms = linear_sum_assignment(-rows)
        # More blanks than idioms: the rest take what they like best.
        best = rows.argmax(-1)
        best[blanks] = idioms
        chosen += best.tolist()
    return chosen


score = accuracy
baseline = chance


def submission(numbers, examples):
    names = [name for _, name in examples.records]
    return as_json(dict(zip(names, np.array(numbers).tolist(), strict=True)))


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
