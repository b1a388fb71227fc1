"""Pretrain a masked language model with whole-word masking, from any Chinese text.

Task: predict the tokens of whole words that were masked.
Data: files or folders of .txt, .jsonl or .json, with or without .gz. `--data` is cut
    into words by jieba; `--segmented` has spaces between its words. `news.txt@1.5`
    is seen 1.5 times while a source without weight is seen once.
Command: python examples/pretrain_mlm.py --smoke    (seconds, built-in text)
    python examples/pretrain_mlm.py --data FOLDER --output run
    The same command goes on with a run that was stopped. How the model in the box was
    made stands in zoo/bundled/gau-alpha-tiny/README.md.
Hardware: two CPU cores for models of the size of the one in the box.
Score: loss and accuracy on held-out text beside those of counting baselines; for the
    model in the box see `zoo.describe("gau-alpha-tiny")`.
Papers: GAU-α, https://kexue.fm/archives/9052; https://arxiv.org/abs/1906.08101
"""

import argparse
import dataclasses
import gzip
import json
import os
import time
from pathlib import Path

import keras
import numpy as np

import zoo
from bert4keras3.training.build_records import build_records
from bert4keras3.training.checkpoints import Checkpoints
from bert4keras3.training.corpus import Corpus
from bert4keras3.training.count_model import CountModel
from bert4keras3.training.documents import read_documents
from bert4keras3.training.masked_lm_evaluation import evaluate, evaluation_batches
from bert4keras3.training.masking_objectives import TokenMasking, WholeWordMasking
from bert4keras3.training.objective import pretraining_dataset
from bert4keras3.training.piecewise_linear import PiecewiseLinear
from bert4keras3.training.pretraining import pretrain
from bert4keras3.training.records import Records
from bert4keras3.training.whole_word_masking import WholeWordMasker
from bert4keras3.training.word_segmenters import word_segmenter

SMOKE_TEXT = (
    "今天 天气 很 好 ， 我们 去 公园 散步 。 明天 下雨 ， 大家 在 家里 看书 。\n" * 400
)
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
    add("--preset", default="gau-alpha-tiny", help="architecture")
    add("--tokenizer", help="a preset or folder with another vocabulary (PRESET)")
    add("--weights", default=None, help="'released' or a path, to go on from there")
    add("--override", nargs="*", default=[], help="num_layers=4 hidden_dim=128 ...")
    add("--output", default="pretrained", help="folder of records, run and result")
    add("--records", help="folder of text and records, to share (OUTPUT)")
    add("--steps", type=int, default=20000)
    add("--save-every", type=int, default=500, help="steps")
    add("--tokens-per-batch", type=int, default=2048)
    add("--lengths", default="64:.5,128:.5", help="length:share,...")
    add("--learning-rate", type=float, default=2e-3)
    add("--dropout", type=float, default=0.0)
    add("--mask-rate", type=float, default=0.15)
    add("--token-share", type=float, default=0.0, help="batches masked by token")
    add("--dtype", default="float32", help="mixed_bfloat16 pays with --no-xla on a CPU")
    add("--no-xla", action="store_true")
    add("--seed", type=int, default=0)
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


@dataclasses.dataclass
class Source:
    """Documents of one file or folder, in two parts by a hash of their tokens."""

    segmenter: str
    weight: float
    training: list
    held_out: list

    def corpora(self, tokenizer):
        """The training and the held-out part, tokenized."""
        tokenize, cut = tools(tokenizer, self.segmenter)
        parts = self.training, self.held_out
        return [Corpus.from_documents(part, tokenize, cut) for part in parts]


def tools(tokenizer, segmenter):
    """Functions from a word to its tokens, and from a sentence to its words."""

    def tokenize(word):
        return tokenizer.encode(word, add_special_tokens=False).token_ids

    return tokenize, word_segmenter(segmenter)


def read_sources(options, tokenizer):
    """Return name -> `Source`."""
    if options.smoke:
        return {"smoke": Source("spaces", 1.0, [SMOKE_TEXT], [SMOKE_TEXT[:2000]])}
    sources = {}
    for items, segmenter in ((options.data, "jieba"), (options.segmented, "spaces")):
        tokenize, cut = tools(tokenizer, segmenter)
        for item in items:
            path, _, weight = item.partition("@")
            source = Source(segmenter, float(weight or 1), [], [])
            for document in read_documents(path):
                corpus = Corpus.from_documents([document], tokenize, cut)
                is_held_out = len(corpus.split(HELD_OUT)[1]) > 0
                (source.held_out if is_held_out else source.training).append(document)
            sources[Path(path).name.split(".")[0]] = source
    return sources


def open_records(options, tokenizer, sources):
    """Records of each source at each length, with their shares of the batches."""
    folder = Path(options.records or options.output)
    (folder / "text").mkdir(parents=True, exist_ok=True)
    found = []
    for name, source in sources.items():
        text = folder / "text" / f"{name}.jsonl.gz"
        if not text.exists():
            partial = text.with_name(f".partial-{text.name}")
            with gzip.open(partial, "wt", encoding="utf-8") as file:
                for document in source.training:
                    print(json.dumps({"text": document}, ensure_ascii=False), file=file)
            os.replace(partial, text)
        for length, share in options.lengths.items():
            target = folder / "records" / f"{name}-{length}"
            manifest = build_records(
                text, target, tokenizer, length, segmenter=source.segmenter
            )
            records = Records(
                target,
                tokenizer,
                tokens_per_batch=options.tokens_per_batch,
                seed=options.seed,
            )
            tokens = manifest.counts["tokens"]
            print(f"{name}: {tokens} tokens in rows of {length}", flush=True)
            found.append((records, share * source.weight * tokens))
    return found


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
    return model


class HeldOut(keras.callbacks.Callback):
    """Adds figures of held-out text, and processor seconds of training, to the log."""

    def __init__(self, batches, folder, last_round):
        super().__init__()
        self.batches, self.last_round = batches, last_round
        self.clock = Path(folder) / "processor_seconds"

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.process_time() - self.began
        if self.clock.exists():
            seconds += float(self.clock.read_text())
        self.clock.write_text(str(seconds))
        logs["processor_seconds"] = seconds
        limit = None if epoch + 1 == self.last_round else QUICK_BATCHES
        for name, batches in self.batches.items():
            for figure, value in evaluate(self.model, batches[:limit]).items():
                logs[f"{name}_{figure}"] = value
        shown = {key: round(float(value), 4) for key, value in logs.items()}
        print(f"\n{json.dumps(shown, ensure_ascii=False)}", flush=True)


def main(arguments=None):
    options = parse_arguments(arguments)
    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.dtype)
    folder = Path(options.output)
    tokenizer = zoo.load_tokenizer(options.tokenizer or options.preset)
    sources = read_sources(options, tokenizer)
    corpora = {name: source.corpora(tokenizer) for name, source in sources.items()}
    records = open_records(options, tokenizer, sources)
    model = build_model(options)

    masked = [
        (kind(tokenizer, options.mask_rate), share)
        for kind, share in (
            (WholeWordMasking, 1 - options.token_share),
            (TokenMasking, options.token_share),
        )
        if share
    ]
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    mask = tokenizer.mask_token_id
    ordinary = np.arange(mask + 3, tokenizer.vocabulary_size)
    # Held-out words are all masked: a kept or a random token is another question.
    only_mask = WholeWordMasker(mask, ordinary, 0.15, mask_share=1.0, keep_share=0.0)
    held_out = {
        name: evaluation_batches(part, only_mask, 64, 32, *special)
        for name, (_, part) in corpora.items()
        if len(part)
    }
    asked = ("preset", "weights", "override", "steps", "tokens_per_batch", "lengths")
    asked += ("learning_rate", "dropout", "mask_rate", "token_share", "dtype", "seed")
    print(f"{model.count_params():,} parameters, {options.steps} steps", flush=True)
    pretrain(
        model,
        lambda step: pretraining_dataset(records, masked, step, options.seed),
        steps=options.steps,
        checkpoints=Checkpoints(
            folder, {name: getattr(options, name) for name in asked}
        ),
        steps_per_round=options.save_every,
        tokens_per_step=options.tokens_per_batch,
        callbacks=[HeldOut(held_out, folder, options.steps // options.save_every)],
        verbose=2,
    )
    training = [(corpora[name][0], source.weight) for name, source in sources.items()]
    counted = CountModel(tokenizer.vocabulary_size, training, (*special, mask))
    for name, batches in held_out.items():
        print(f"{name}, counting: {json.dumps(counted.score(batches))}")
    # The preset's own dropout belongs into the result, whatever this run used.
    result = zoo.load(options.preset, weights=None, **options.override)
    result.set_weights(model.backbone.get_weights())
    target = folder / f"model-{options.steps}"
    if not target.exists():
        zoo.save(result, target, dtype="float16", tokenizer=tokenizer)
    print(f"written: {target}")
    return model


if __name__ == "__main__":
    main()
