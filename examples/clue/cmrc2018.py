"""CLUE's CMRC 2018: the words of a passage that answer a question.

Task: extractive reading by a global pointer over windows that overlap.
Data: cmrc2018_public.zip of CLUE, fetched by examples/clue/download.py.
Command: python examples/clue/cmrc2018.py --data FOLDER --model gau-alpha
    python examples/clue/cmrc2018.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: exact match on dev, by the rules of the official script; the mean of it and F1
    says which epoch is best. GAU-α 58.09, RoFormerV2* 57.91
    (https://kexue.fm/archives/9052) count spans whose places are exact: less than
    exact match, which forgives punctuation and takes any of the right answers.
Recipe: ZhuiyiTechnology/roformer-v2, clue/cmrc2018.py.
"""

import sys

from fine_tune import Recipe, fine_tune
from records import Examples, as_json, check_fields, read_json

import zoo
from bert4keras3.metrics.reading_comprehension import cmrc2018_scores

RECIPE = Recipe(
    task="cmrc2018",
    sequence_length=512,
    batch_size=16,
    epochs=10,
    metric="average",
    shown="exact_match",
    full=(10142, 3219),
    accumulation=2,
)
TEST, SUBMISSION = "test.json", "cmrc2018_predict.json"
STEP = 128  # tokens from the start of a window to that of the next
PASSAGE = "小红住在北京，每天早上七点起床，然后坐地铁去学校。"
SMOKE = {"小红住在哪里？": ("北京", 4), "小红几点起床？": ("早上七点", 9)}


def write_smoke(folder):
    questions = [
        {
            "id": f"SMOKE_{number}",
            "question": question,
            "answers": [{"text": text, "answer_start": start}],
        }
        for number, (question, (text, start)) in enumerate(SMOKE.items())
    ]
    paragraph = {"id": "SMOKE", "context": PASSAGE * 3, "qas": questions}
    content = as_json({"data": [{"paragraphs": [paragraph]}] * 4})
    for name in ("train.json", "dev.json", TEST):
        (folder / name).write_text(content, encoding="utf-8")


def load_data(folder, split):
    path = folder / f"{split}.json"
    content = read_json(path, dict)
    check_fields(content, {"data": list}, str(path))
    questions, passages, answers, records = [], [], [], []
    paragraphs = [p for article in content["data"] for p in article["paragraphs"]]
    for number, paragraph in enumerate(paragraphs, 1):
        where = f"{path}, paragraph {number}"
        check_fields(paragraph, {"context": str, "qas": list}, where)
        for record in paragraph["qas"]:
            check_fields(record, {"id": str, "question": str}, where)
            questions.append(record["question"])
            passages.append(paragraph["context"])
            answers.append(record.get("answers"))
            records.append(record)
    labels = answers if split != "test" else None
    return Examples((questions, passages), labels, records)


def build_model(options):
    length = options.sequence_length
    return zoo.load(
        options.model,
        weights=options.weights,
        task="question_answering",
        scorer="pointer",
        sequence_length=length,
        # The question takes part of the window; so this is about the step.
        overlap=max(length - STEP - 32, length // 4),
        **options.sizes,
    )


def predict(model, examples, options):
    found = model.answer(*examples.x, batch_size=options.batch_size)
    return [answer["text"] for answer in found]


def score(answers, examples):
    given = dict(zip((r["id"] for r in examples.records), answers, strict=True))
    right = {
        record["id"]: [answer["text"] for answer in record["answers"]]
        for record in examples.records
    }
    scores = cmrc2018_scores(right, given)
    return {name: scores[name] for name in ("exact_match", "f1", "average")}


def baseline(train, examples):
    """No answer to any question: what is exact cannot be guessed."""
    return score([""] * len(examples), examples)


def submission(answers, examples):
    names = [record["id"] for record in examples.records]
    return as_json(dict(zip(names, answers, strict=True)))


if __name__ == "__main__":
    fine_tune(sys.modules[__name__])
