"""Fill the blanks of Chinese sentences with a masked language model.

    python examples/fill_in_the_blank.py
    python examples/fill_in_the_blank.py --model gau-alpha "今天[MASK]气很好。"

Takes a few seconds on one CPU core with the bundled model. There is no score: read the
candidates. Masked language models: https://arxiv.org/abs/1810.04805.
"""

import argparse

import zoo

SENTENCES = [
    "改[MASK]开放以来，人民生[MASK]水平不断提[MASK]。",
    "中国的首都是北[MASK]，人民代[MASK]大会在这里召开。",
    "会议听取了工作报[MASK]，并进行了讨[MASK]。",
    "我国经济持续快速[MASK]展。",
]


def print_candidates(text, blanks):
    print(text)
    for number, candidates in enumerate(blanks, start=1):
        row = "  ".join(f"{token} {share:.1%}" for token, share in candidates)
        print(f"  blank {number}:  {row}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("texts", nargs="*", default=SENTENCES, help="hold [MASK]")
    parser.add_argument("--model", default="gau-alpha-tiny", help="name or path")
    parser.add_argument("--top-k", type=int, default=5, help="candidates per blank")
    parser.add_argument("--smoke", action="store_true", help="one sentence only")
    arguments = parser.parse_args()

    texts = arguments.texts[:1] if arguments.smoke else arguments.texts
    model = zoo.load(arguments.model, task="masked_lm")
    for text, blanks in zip(texts, model.fill(texts, arguments.top_k), strict=True):
        print_candidates(text, blanks)


if __name__ == "__main__":
    main()
