"""Pretrain a masked language model with whole-word masking, from any Chinese text.

Task: predict the tokens of whole words that were masked.
Data: files or folders of .txt, .jsonl or .json, with or without .gz. `--data` is cut
    into words by jieba; `--segmented` has spaces between its words. `news.txt@1.5`
    is seen 1.5 times while a source without weight is seen once.
Command: python examples/pretrain_mlm.py --smoke    (seconds, built-in text)
    python examples/pretrain_mlm.py --data FOLDER --output run
    How the model in the box was made stands in zoo/bundled/gau-alpha-tiny/README.md.
Hardware: two CPU cores; 145 minutes, other work beside it, for the model in the box.
Score: loss and accuracy on held-out text beside those of counting baselines; for the
    model in the box see `zoo.describe("gau-alpha-tiny")`.
Papers: GAU-α, https://kexue.fm/archives/9052; https://arxiv.org/abs/1906.08101
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np

import zoo
from bert4keras3.training.corpus import Corpus
from bert4keras3.training.count_model import CountModel
from bert4keras3.training.documents import read_documents
from bert4keras3.training.masked_lm_dataset import (
    MaskedLMDataset,
    evaluate,
    evaluation_batches,
)
from bert4keras3.training.piecewise_linear import PiecewiseLinear
from bert4keras3.training.whole_word_masking import WholeWordMasker

SMOKE_TEXT = "今天天气很好，我们去公园散步。明天下雨，大家在家里看书。" * 40
SMOKE = dict(
    override=["num_layers=2", "hidden_dim=32", "intermediate_dim=64"],
    **dict(steps=20, save_every=10, tokens_per_batch=256, lengths="32:1"),
)
HELD_OUT = 0.025  # share of the documents that is never trained on
QUICK_BATCHES = 8  # of each held-out source while training; all of them at the end
WARM_UP, DECAY_FROM = 0.03, 0.1  # shares of all steps
OPTIMIZER = dict(weight_decay=0.01, beta_2=0.98, epsilon=1e-6, global_clipnorm=1.0)


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", nargs="*", default=[], metavar="PATH[@WEIGHT]")
    add("--segmented", nargs="*", default=[], metavar="PATH[@WEIGHT]")
    add("--preset", default="gau-alpha-tiny", help="architecture and vocabulary")
    add("--weights", default=None, help="'released' or a path, to go on from there")
    add("--override", nargs="*", default=[], help="num_layers=4 hidden_dim=128 ...")
    add("--output", default="pretrained", help="folder of checkpoints, log and result")
    add("--steps", type=int, default=20000)
    add("--save-every", type=int, default=500, help="steps")
    add("--tokens-per-batch", type=int, default=2048)
    add("--lengths", default="32:.15,64:.35,128:.4,256:.1", help="length:share,...")
    add("--learning-rate", type=float, default=2e-3)
    add("--dropout", type=float, default=0.0)
    add("--mask-rate", type=float, default=0.15)
    add("--token-share", type=float, default=0.0, help="rows masked token by token")
    add("--dtype", default="float32", help="mixed_bfloat16 pays with --no-xla on a CPU")
    add("--no-xla", action="store_true")
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="go on from what --output holds")
    add("--smoke", action="store_true", help="built-in text, two small layers, seconds")
    if parser.parse_known_args(arguments)[0].smoke:
        parser.set_defaults(**SMOKE)
    options = parser.parse_args(arguments)
    if not (options.data or options.segmented or options.smoke):
        parser.error("give --data, --segmented or --smoke")
    lengths = (item.split(":") for item in options.lengths.split(","))
    options.lengths = {int(length): float(share) for length, share in lengths}
    sizes = (item.split("=") for item in options.override)
    options.override = {name: int(value) for name, value in sizes}
    return options


def load_data(options, tokenizer):
    """Return name -> (training corpus, held-out corpus, weight)."""

    def tokenize(word):
        return tokenizer.encode(word, add_special_tokens=False).token_ids

    if options.smoke:
        corpus = Corpus.from_documents([SMOKE_TEXT], tokenize, segment=list)
        return {"smoke": (corpus, corpus, 1.0)}
    import jieba

    def segment(sentence):
        return jieba.cut(sentence, HMM=False)

    sources = {}
    for items, cut in ((options.data, segment), (options.segmented, None)):
        for item in items:
            path, _, weight = item.partition("@")
            corpus = Corpus.from_documents(read_documents(path), tokenize, cut)
            name = Path(path).name.split(".")[0]
            sources[name] = (*corpus.split(HELD_OUT), float(weight or 1))
            print(f"{name}: {len(corpus)} documents, {len(corpus.token_ids)} tokens")
    return sources


def build_model(options):
    model = zoo.load(
        options.preset,
        weights=options.weights,
        task="masked_lm",
        preprocessor=None,
        **dict(dropout=options.dropout, attention_dropout=options.dropout),
        **options.override,
    )
    shares = {WARM_UP: 1.0, DECAY_FROM: 1.0, 1.0: 0.0}
    points = {max(1, round(at * options.steps)): shares[at] for at in shares}
    model.compile(
        keras.optimizers.AdamW(
            PiecewiseLinear(options.learning_rate, points), **OPTIMIZER
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=not options.no_xla,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def save(model, folder, step):
    """Keep weights, optimizer and step number; never leave half a file."""
    model.save_weights(folder / "partial.weights.h5")
    os.replace(folder / "partial.weights.h5", folder / "latest.weights.h5")
    (folder / "step.partial").write_text(str(step))
    os.replace(folder / "step.partial", folder / "step")


def train_round(model, data, step, goal):
    """Train from one step to another; return tokens per second."""
    verbose = 1 if sys.stdout.isatty() else 2  # a log file wants no moving bar
    bar = keras.utils.Progbar(
        goal - step, verbose=verbose, stateful_metrics=["tokens/s"]
    )
    began = time.perf_counter()
    for done in range(1, goal - step + 1):
        logs = model.train_on_batch(*data.batch(step + done - 1), return_dict=True)
        model.reset_metrics()
        speed = round(done * data.tokens_per_batch / (time.perf_counter() - began))
        bar.update(done, [*logs.items(), ("tokens/s", speed)])
    return speed


def main(arguments=None):
    options = parse_arguments(arguments)
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.dtype)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = zoo.load_tokenizer(options.preset)
    sources = load_data(options, tokenizer)
    model = build_model(options)
    step = 0
    if options.resume and (folder / "step").exists():
        step = int((folder / "step").read_text())
        model.load_weights(folder / "latest.weights.h5")

    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    mask = tokenizer.mask_token_id
    ordinary = np.arange(mask + 3, tokenizer.vocabulary_size)
    masker = WholeWordMasker(
        mask, ordinary, options.mask_rate, token_share=options.token_share
    )
    # Held-out words are all masked: a kept or a random token is another question.
    only_mask = WholeWordMasker(mask, ordinary, 0.15, mask_share=1.0, keep_share=0.0)
    held_out = {
        name: evaluation_batches(corpus, only_mask, 64, 32, *special)
        for name, (_, corpus, _) in sources.items()
        if len(corpus)
    }
    training = [(corpus, weight) for corpus, _, weight in sources.values()]
    data = MaskedLMDataset(
        training,
        masker,
        options.lengths,
        options.tokens_per_batch,
        options.save_every,
        *special,
        fill_from=64,  # shorter rows end where their sentence ends
        seed=options.seed,
    )
    print(f"{model.count_params():,} parameters, step {step} of {options.steps}")
    while step < options.steps:
        goal = min(options.steps, step - step % options.save_every + options.save_every)
        speed = train_round(model, data, step, goal)
        step = goal
        save(model, folder, step)
        limit = QUICK_BATCHES if step < options.steps else None
        scores = {key: evaluate(model, held_out[key][:limit]) for key in held_out}
        line = json.dumps({"step": step, "tokens/s": speed, "held_out": scores})
        with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
            print(line, file=log)
        print(line, flush=True)
    counted = CountModel(tokenizer.vocabulary_size, training, (*special, mask))
    for name, batches in held_out.items():
        print(f"{name}, counting: {json.dumps(counted.score(batches))}")
    # The preset's own dropout belongs into the result, whatever this run used.
    result = zoo.load(options.preset, weights=None, **options.override)
    result.set_weights(model.backbone.get_weights())
    target = folder / f"model-{step}"
    if not target.exists():
        zoo.save(result, target, dtype="float16", tokenizer=tokenizer)
    print(f"written: {target}")
    return model


if __name__ == "__main__":
    main()
