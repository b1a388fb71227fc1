"""Embed Chinese sentences and find the nearest ones.

    python examples/sentence_embedding.py
    python examples/sentence_embedding.py --model roformer-sim-ft-base

Takes a few seconds on one CPU core with the bundled model, whose vectors are the mean
of its hidden states: rough, but not random. Models trained for this are the
RoFormer-Sim family, https://kexue.fm/archives/8454.
"""

import argparse

import zoo
from zoo.sentence_vectors import nearest, sentence_vectors

SENTENCES = [
    "今天天气很好，阳光明媚。",
    "明天有雨，气温下降。",
    "国家主席会见了来访的外国总统。",
    "两国领导人举行了会谈。",
    "公司今年的利润大幅增长。",
    "企业的经济效益明显提高。",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="gau-alpha-tiny", help="name or path")
    parser.add_argument("--smoke", action="store_true", help="three sentences only")
    arguments = parser.parse_args()

    texts = SENTENCES[:3] if arguments.smoke else SENTENCES
    model = zoo.load(arguments.model)
    tokenizer = zoo.load_tokenizer(arguments.model)
    vectors = sentence_vectors(model, tokenizer, texts)
    for text, others in zip(texts, nearest(vectors), strict=True):
        index, cosine = others[0]
        print(f"{text}\n  nearest: {texts[index]}  cosine {cosine:.3f}")


if __name__ == "__main__":
    main()
