"""What `make demo` shows: blanks filled, sentences compared, released files loaded.

    make demo
    python examples/demo.py --smoke

Under a minute on one CPU core; nothing is downloaded. It ends with exit code 1 if a
model from the fixtures gives other numbers than the original code did.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.quiet import quiet_native_code

with quiet_native_code():
    import keras

import zoo
from zoo.sentence_vectors import nearest, sentence_vectors

MODEL = "gau-alpha-tiny"
BLANKS = [
    "改[MASK]开放以来，人民生[MASK]水平不断提[MASK]。",
    "中国的首都是北[MASK]，人民代[MASK]大会在这里召开。",
    "会议听取了工作报[MASK]，并进行了讨[MASK]。",
    "我国经济持续快速[MASK]展。",
]
SENTENCES = [
    "今天天气很好，阳光明媚。",
    "明天有雨，气温下降。",
    "国家主席会见了来访的外国总统。",
    "两国领导人举行了会谈。",
    "公司今年的利润大幅增长。",
    "企业的经济效益明显提高。",
]
# Small models with random weights in the released file format, made by the original
# code together with its outputs.
FIXTURES = Path(__file__).parents[1] / "tests" / "golden" / "models"
FAMILIES = ("gau_alpha", "roformer", "roformer_v2")
TOLERANCE = 1e-4

NEXT = """\
[bold]Next[/]
  . .venv/bin/activate                     the commands below live there
  python -m zoo list                       the released models
  python -m zoo describe gau-alpha         one of them: data, licence, scores
  python -m zoo fill "今天[MASK]气真好。"    a sentence of yours
  python -m zoo fill -m gau-alpha "..."    the released model (downloads 360 MB)
  python -m zoo verify FOLDER              check a released folder that you have
  python examples/pretrain_mlm.py --help   how the bundled model was trained
In Python: import zoo; model = zoo.load("gau-alpha-tiny")"""


def fill_blanks(console, texts):
    model = zoo.load(MODEL, task="masked_lm")
    table = Table(title="Fill in the blank")
    table.add_column("sentence", overflow="fold")
    table.add_column("blank")
    table.add_column("candidates", no_wrap=True)
    for text, blanks in zip(texts, model.fill(texts, top_k=4), strict=True):
        for number, candidates in enumerate(blanks, start=1):
            row = "  ".join(
                f"{escape(token)} {share:.0%}" for token, share in candidates
            )
            table.add_row(escape(text) if number == 1 else "", str(number), row)
    console.print(table)
    return model


def compare_sentences(console, backbone, texts):
    vectors = sentence_vectors(backbone, zoo.load_tokenizer(MODEL), texts)
    table = Table("sentence", "nearest", "cosine", title="Nearest sentences")
    for text, others in zip(texts, nearest(vectors), strict=True):
        index, cosine = others[0]
        table.add_row(text, texts[index], f"{cosine:.3f}")
    console.print(table)


def load_released_folders(console):
    """Returns whether every family gives the numbers of the original code."""
    table = Table("folder", "ours", "original", "difference")
    table.title = "Folders in the released format, made by the original code"
    agree = True
    for name in FAMILIES:
        case = np.load(FIXTURES / name / "cases_len33.npz")
        backbone = zoo.load(FIXTURES / name)
        hidden = backbone(
            {
                "token_ids": case["len33__token_ids"],
                "segment_ids": case["len33__segment_ids"],
                "padding_mask": case["len33__mask"],
            }
        )
        hidden = keras.ops.convert_to_numpy(hidden)
        original = case["len33__encoder__hidden"]
        real = case["len33__mask"] == 1
        difference = float(np.abs(hidden - original)[real].max())
        agree &= difference <= TOLERANCE
        table.add_row(
            f"{name}/\n{type(backbone).__name__}",
            " ".join(f"{number:+.4f}" for number in hidden[0, 1, :2]),
            " ".join(f"{number:+.4f}" for number in original[0, 1, :2]),
            f"at most {difference:.1e}",
        )
    console.print(table)
    return agree


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="fewer sentences")
    few = slice(2) if parser.parse_args().smoke else slice(None)
    console = Console(highlight=False)
    start = time.perf_counter()
    console.print(f"Keras {keras.version()} on {keras.backend.backend()}\n")
    model = fill_blanks(console, BLANKS[few])
    compare_sentences(console, model.backbone, SENTENCES[few])
    agree = load_released_folders(console)
    console.print(NEXT)
    console.print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    if not agree:
        console.print(f"[red]A difference is above {TOLERANCE}.[/]")
        sys.exit(1)


if __name__ == "__main__":
    main()
