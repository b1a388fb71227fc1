"""Throughput of our tokenizer beside the original one, on one core.

Needs jieba, and the source of bert4keras, unpacked anywhere; its model code is not
loaded, so no TensorFlow is needed (but `six` is):

    pip download bert4keras==0.11.5 --no-deps --no-binary :all:
    tar xzf bert4keras-0.11.5.tar.gz
    python benchmarks/tokenizer.py --original bert4keras-0.11.5 --text corpus.txt

Each job runs on both in turn, several times over. The ratio is the median of the
ratios of neighbouring runs, which a busy machine disturbs least. The ids are compared
first.
"""

import argparse
import importlib
import logging
import statistics
import sys
import time
import types
import warnings
from pathlib import Path

import jieba

from bert4keras3.text import Tokenizer

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "tokenizer"
BUILT_IN = """
昨天傍晚，老王带着两个孩子去河边散步，路上遇见了好几位多年不见的同学。
这款手机的电池容量是5000mAh，屏幕为6.7英寸，售价3299元，比上一代便宜了15%。
会议定于2023年3月18日上午9:30在北京国际会议中心举行，请各部门提前准备材料。
他用Python写了一个小程序，把GitHub上的README.md翻译成中文，再发到公司的邮箱里。
“春江潮水连海平，海上明月共潮生。”这两句诗，她从小就会背。
Deep learning models such as BERT and GPT are trained on very large corpora of text.
""".strip().splitlines()


def load_original(folder):
    """Imports the tokenizer and the small functions of an unpacked bert4keras."""
    package = types.ModuleType("bert4keras")
    package.__path__ = [str(folder / "bert4keras")]
    backend = types.ModuleType("bert4keras.backend")
    backend.K = backend.keras = backend.tf = None
    sys.modules |= {"bert4keras": package, "bert4keras.backend": backend}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(
            importlib.import_module(f"bert4keras.{name}")
            for name in ("tokenizers", "snippets")
        )


def cut(lines, length, count):
    """Texts of about `length` characters: lines joined, then cut."""
    joined = "".join(lines)
    while len(joined) < length * count:
        joined += joined
    return [joined[i * length : (i + 1) * length] for i in range(count)]


def batches(texts, size=32):
    return [texts[i : i + size] for i in range(0, len(texts), size)]


def encodings(original, ours, texts):
    """Two functions that do the same work."""

    def encode_original():
        for text in texts:
            original.encode(text)

    def encode_ours():
        for text in texts:
            ours.encode(text)

    return encode_original, encode_ours


def jobs(original, snippets, ours, texts):
    """`{name: (original, ours)}`: pairs of functions that do the same work."""

    def offsets_original():
        for text in texts:
            original.rematch(text, original.tokenize(text))

    def offsets_ours():
        for text in texts:
            _ = ours.encode(text).offsets

    def pairs_original():
        for first, second in zip(texts, texts[1:], strict=False):
            original.encode(first, second, maxlen=128)

    def pairs_ours():
        for first, second in zip(texts, texts[1:], strict=False):
            ours.encode(first, second, 128)

    def batches_original():
        for batch in batches(texts):
            rows = [original.encode(text, maxlen=256) for text in batch]
            for column in zip(*rows, strict=True):
                snippets.sequence_padding(column)

    def batches_ours():
        for batch in batches(texts):
            ours(batch, max_length=256)

    return {
        "encode": encodings(original, ours, texts),
        "encode, offsets": (offsets_original, offsets_ours),
        "encode, pairs": (pairs_original, pairs_ours),
        "padded batches": (batches_original, batches_ours),
    }


def seconds(job):
    """Processor time, which other programs on the machine do not add to."""
    start = time.process_time()
    job()
    return time.process_time() - start


def check(original, ours, texts):
    """Stops if a text has other ids in the two tokenizers."""
    for text in texts:
        if original.encode(text)[0] != ours.encode(text).token_ids:
            sys.exit(f"The tokenizers disagree on {text!r}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, required=True)
    parser.add_argument("--text", type=Path, help="UTF-8, one text a line")
    parser.add_argument("--vocabulary", type=Path, default=GOLDEN / "vocab.txt")
    parser.add_argument(
        "--word-vocabulary", type=Path, default=GOLDEN / "word_vocab.txt"
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 50, 300])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()

    tokenizers, snippets = load_original(arguments.original)
    original = tokenizers.Tokenizer(str(arguments.vocabulary), do_lower_case=True)
    ours = Tokenizer(arguments.vocabulary)
    jieba.setLogLevel(logging.WARNING)
    original_words = tokenizers.Tokenizer(
        str(arguments.word_vocabulary),
        do_lower_case=True,
        pre_tokenize=lambda text: jieba.cut(text, HMM=False),
    )
    our_words = Tokenizer(arguments.word_vocabulary, pre_tokenize="jieba")
    lines = BUILT_IN
    if arguments.text:
        with arguments.text.open(encoding="utf-8") as file:
            lines = [line.rstrip("\n") for line in file if line.strip()]

    print("characters  job              original/s     ours/s  ratio")
    for length in arguments.lengths:
        texts = cut(lines, length, max(64, 20_000 // length))
        check(original, ours, texts)
        check(original_words, our_words, texts)
        pairs = jobs(original, snippets, ours, texts)
        pairs["encode, words"] = encodings(original_words, our_words, texts)
        for name, (theirs, mine) in pairs.items():
            runs = [(seconds(theirs), seconds(mine)) for _ in range(arguments.repeats)]
            ratio = statistics.median(a / b for a, b in runs)
            speeds = [
                len(texts) / statistics.median(run) for run in zip(*runs, strict=True)
            ]
            print(
                f"{length:>10}  {name:<16} {speeds[0]:>10,.0f} {speeds[1]:>10,.0f} "
                f"{ratio:>6.1f}"
            )


if __name__ == "__main__":
    main()
