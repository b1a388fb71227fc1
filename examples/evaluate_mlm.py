"""Score a masked language model on held-out text, beside counting baselines.

Task: predict masked tokens: of whole words (15 % of the words), and single ones
    (15 % of the tokens, neighbours mostly visible). Every chosen position is [MASK].
Data: as in examples/pretrain_mlm.py, which never trains on what is held out here.
Command: python examples/evaluate_mlm.py --smoke    (seconds, built-in text)
    python examples/evaluate_mlm.py --weights FOLDER --data FOLDER
Hardware: two CPU cores; two minutes for the model in the box.
Score: two tables in markdown: accuracy, loss in nats and top-5 accuracy by source.
    zoo/bundled/gau-alpha-tiny/README.md holds those of the model in the box.
Papers: https://arxiv.org/abs/1906.08101 (whole-word masking)
"""

import argparse

import keras
import numpy as np
import pretrain_mlm

import zoo
from bert4keras3.training.count_model import CountModel
from bert4keras3.training.masked_lm_evaluation import evaluation_batches
from bert4keras3.training.whole_word_masking import WholeWordMasker

BASELINES = ("unigram", "left bigram", "right bigram", "left and right")
TASKS = {"Whole words masked": 0.0, "Single characters masked": 1.0}
LENGTH, BATCH_SIZE, MASK_RATE = 64, 32, 0.15


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", nargs="*", default=[], metavar="PATH[@WEIGHT]")
    add("--segmented", nargs="*", default=[], metavar="PATH[@WEIGHT]")
    add("--preset", default="gau-alpha-tiny", help="architecture")
    add("--tokenizer", help="a preset or folder with another vocabulary (PRESET)")
    add("--override", nargs="*", default=[], help="num_layers=4 hidden_dim=128 ...")
    add("--weights", default="released", help="'released' or a path")
    add("--smoke", action="store_true", help="built-in text, seconds")
    options = parser.parse_args(arguments)
    if not (options.data or options.segmented or options.smoke):
        parser.error("give --data, --segmented or --smoke")
    sizes = (item.split("=") for item in options.override)
    options.override = {name: int(value) for name, value in sizes}
    return options


def score(model, batches):
    """Sums over the masked positions: right, right among five, nats, positions."""
    totals = np.zeros(4)
    for inputs, targets, weights in batches:
        logits = keras.ops.cast(model.predict_on_batch(inputs), "float32")
        logits = keras.ops.convert_to_numpy(logits)
        peaks = logits.max(-1, keepdims=True)
        total = peaks[..., 0] + np.log(np.exp(logits - peaks).sum(-1))
        chosen = np.take_along_axis(logits, targets[..., None], -1)
        rank = (logits > chosen).sum(-1)
        figures = (rank == 0, rank < 5, total - chosen[..., 0], np.ones(rank.shape))
        totals += [(weights * figure).sum() for figure in figures]
    return totals


def cells(right, five, nats, count):
    return [
        f"**{right / count:.1%} ({nats / count:.2f})**",
        f"{five / count:.1%}",
    ]


def counted_cells(sums):
    right, nats, count = sums.T
    return [
        f"{r / c:.1%} ({n / c:.2f})" for r, n, c in zip(right, nats, count, strict=True)
    ]


def print_table(title, model, counted, held_out):
    print(f"\n{title}\n\n| held-out text | model | top 5 | {' | '.join(BASELINES)} |")
    print("|---" * (3 + len(BASELINES)) + "|")
    everything, everything_counted = np.zeros(4), np.zeros((len(BASELINES), 3))
    for name, batches in held_out.items():
        totals = score(model, batches)
        baselines = counted.score(batches)
        sums = np.array(
            [
                [baselines[key]["accuracy"], baselines[key]["nll"], 1.0]
                for key in BASELINES
            ]
        )
        sums *= totals[-1]
        everything += totals
        everything_counted += sums
        row = [name, *cells(*totals), *counted_cells(sums)]
        print(f"| {' | '.join(row)} |", flush=True)
    row = ["all", *cells(*everything), *counted_cells(everything_counted)]
    print(f"| {' | '.join(row)} |\n\n{everything[-1]:.0f} masked positions.")


def main(arguments=None):
    options = parse_arguments(arguments)
    tokenizer = zoo.load_tokenizer(options.tokenizer or options.preset)
    sources = pretrain_mlm.read_sources(options, tokenizer)
    corpora = {name: source.corpora(tokenizer) for name, source in sources.items()}
    model = zoo.load(
        options.preset,
        weights=options.weights,
        task="masked_lm",
        preprocessor=None,
        **options.override,
    )
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    mask = tokenizer.mask_token_id
    ordinary = np.arange(mask + 3, tokenizer.vocabulary_size)
    training = [(corpora[name][0], source.weight) for name, source in sources.items()]
    counted = CountModel(tokenizer.vocabulary_size, training, (*special, mask))
    for title, token_share in TASKS.items():
        # All of them masked: a kept or a random token is another question.
        masker = WholeWordMasker(
            mask,
            ordinary,
            MASK_RATE,
            mask_share=1.0,
            keep_share=0.0,
            token_share=token_share,
        )
        held_out = {
            name: evaluation_batches(corpus, masker, LENGTH, BATCH_SIZE, *special)
            for name, (_, corpus) in corpora.items()
            if len(corpus)
        }
        print_table(title, model, counted, held_out)


if __name__ == "__main__":
    main()
