"""CLUE's C3: the right one of up to four answers about a dialogue or a text.

Task: multiple choice; each answer is read behind the text and the question.
Data: c3_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/c3.py --data FOLDER --model gau-alpha
    python examples/clue/c3.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: accuracy on dev; GAU-α 68.24, RoFormerV2* 64.62 (https://kexue.fm/archives/9052).
Recipe: ZhuiyiTechnology/roformer-v2, clue/c3.py. There a text with fewer answers is
    filled up with wrong ones; here what is not there takes no part.
"""

import sys

from choices import accuracy, build_chooser, chance, choice_logits
from fine_tune import Recipe, fine_tune
from records import Examples, as_json, as_lines, check_fields, read_json

RECIPE = Recipe(
    task="c3",
    sequence_length=512,
    batch_size=4,
    epochs=10,
    metric="accuracy",
    full=(11869, 3816),
    accumulation=4,
)
TEST, SUBMISSION = "test1.1.json", "c311_predict.json"
FILES = {
    "train": ("m-train.json", "d-train.json"),
    "dev": ("m-dev.json", "d-dev.json"),
    "test": (TEST,),
}
NUM_CHOICES = 4
SMOKE = [
    [
        ["男：我们几点出发？", "女：八点太早了，九点吧。"],
        [{"question": "几点出发？", "choice": ["八点", "九点"], "answer": "九点"}],
        "1",
    ],
    [
        ["今天下雨，我们没有去公园，在家里看了一部电影。"],
        [
            {
                "question": "他们做了什么？",
                "choice": ["逛公园", "看电影", "睡觉"],
                "answer": "看电影",
            }
        ],
        "2",
    ],
]


def write_smoke(folder):
    for name in [name for names in FILES.values() for name in names]:
        (folder / name).write_text(as_json(SMOKE * 4), encoding="utf-8")


def load_data(folder, split):
    texts, choices, labels, records = [], [], [], []
    for path in [folder / name for name in FILES[split]]:
        for number, (lines, questions, *_) in enumerate(read_json(path, list), 1):
            where = f"{path}, text {number}"
            for record in questions:
                check_fields(record, {"question": str, "choice": list}, where)
                if len(record["choice"]) > NUM_CHOICES:
                    raise ValueError(f"{where}: more than {NUM_CHOICES} choices.")
                texts.append("||".join(lines))
                choices.append([(record["question"], c) for c in record["choice"]])
                records.append(record)
                if split != "test":
                    labels.append(place_of_answer(record, where))
    return Examples((texts, choices), labels or None, records)


def place_of_answer(record, where):
    check_fields(record, {"answer": str}, where)
    if record["answer"] not in record["choice"]:
        raise ValueError(
            f"{where}: the answer {record['answer']!r} is none of the choices "
            f"{record['choice']!r}."
        )
    return record["choice"].index(record["answer"])


def build_model(options):
    return build_chooser(options, NUM_CHOICES)


def predict(model, examples, options):
    return choice_logits(model, examples, options).argmax(-1).tolist()


score = accuracy
baseline = chance


def submission(numbers, examples):
    return as_lines(
        {"id": str(record.get("id", at)), "label": str(number)}
        for at, (number, record) in enumerate(
            zip(numbers, examples.records, strict=True)
        )
    )


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
