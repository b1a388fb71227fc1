"""Tokens a second of the pretraining data alone, against those of a training step.

Builds records of some text, reads them through an objective as training does, and
trains the masked language model of the box on batches of the same shape that lie in
memory. The two run in turn in one process; medians, and the ratio of the data to the
step, are printed. Data that is less than one step's work ahead would starve it.

    python benchmarks/pretraining_data.py --data FOLDER [--length 128] [--rows 16]
        [--repeats 7] [--batches 40] [--objective whole_words]
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402

import zoo  # noqa: E402
from bert4keras3.training.build_records import build_records  # noqa: E402
from bert4keras3.training.masking_objectives import (  # noqa: E402
    NGramMasking,
    SpanMasking,
    TokenMasking,
    WholeWordMasking,
)
from bert4keras3.training.objective import pretraining_dataset  # noqa: E402
from bert4keras3.training.records import Records  # noqa: E402

OBJECTIVES = {
    "whole_words": WholeWordMasking,
    "tokens": TokenMasking,
    "n_grams": NGramMasking,
    "spans": SpanMasking,
}
TEXT = "今天天气很好，我们去公园散步。明天下雨，大家在家里看书。\n" * 20_000


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", help="text: a file or folder; without it, one sentence many times")
    add("--length", type=int, default=128)
    add("--rows", type=int, default=16)
    add("--batches", type=int, default=40, help="of one measurement")
    add("--repeats", type=int, default=7)
    add("--objective", default="whole_words", choices=list(OBJECTIVES))
    return parser.parse_args()


def main():
    options = parse_arguments()
    tokenizer = zoo.load_tokenizer("gau-alpha-tiny")
    with tempfile.TemporaryDirectory() as folder:
        text = options.data
        if text is None:
            text = f"{folder}/text.txt"
            with open(text, "w", encoding="utf-8") as file:
                file.write(TEXT)
        build_records(text, f"{folder}/records", tokenizer, options.length)
        measure(options, tokenizer, f"{folder}/records")


def measure(options, tokenizer, folder):
    tokens = options.rows * options.length
    records = Records(folder, tokenizer, tokens_per_batch=tokens)
    dataset = pretraining_dataset(records, OBJECTIVES[options.objective](tokenizer))
    reading = iter(dataset)
    batches = [next(reading) for _ in range(4)]
    model = zoo.load("gau-alpha-tiny", task="masked_lm", preprocessor=None)
    model.compile(
        "adamw",
        keras.losses.SparseCategoricalCrossentropy(True),
        jit_compile=keras.backend.backend() != "torch",
    )

    def read():
        for _ in range(options.batches):
            next(reading)

    def step():
        for number in range(options.batches // 4):
            model.train_on_batch(*batches[number % 4])

    step()
    seconds = {"data": [], "step": []}
    for _ in range(options.repeats):
        for name, run, count in (
            ("data", read, options.batches),
            ("step", step, options.batches // 4),
        ):
            began = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - began) / count)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    ratios = [b / a for a, b in zip(seconds["data"], seconds["step"], strict=True)]
    for name, median in medians.items():
        print(f"{name}: {tokens / median:,.0f} tokens a second")
    print(
        f"the data is {statistics.median(ratios):.1f} times as fast as the step "
        f"({min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
