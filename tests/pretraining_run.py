"""A small pretraining run, in this process or in one that is killed."""

import sys
from pathlib import Path

import keras
from record_sources import TOKENIZER, build, text

from bert4keras3.models import GAUAlphaBackbone
from bert4keras3.tasks.masked_lm import MaskedLM
from bert4keras3.training.checkpoints import Checkpoints
from bert4keras3.training.masking_objectives import WholeWordMasking
from bert4keras3.training.objective import pretraining_dataset
from bert4keras3.training.piecewise_linear import PiecewiseLinear
from bert4keras3.training.pretraining import pretrain
from bert4keras3.training.records import Records

STEPS, ROUND = 12, 2


def build_corpus(folder):
    folder = Path(folder)
    folder.mkdir()
    (folder / "text.txt").write_text(text(200), encoding="utf-8")
    build(folder / "text.txt", folder / "records", length=16, fill=True)
    return folder / "records"


def build_model(dropout=0.3, accumulation=3, steps=STEPS):
    """With dropout, momentum and accumulated gradients: all that has a state."""
    keras.utils.set_random_seed(0)
    backbone = GAUAlphaBackbone(
        TOKENIZER.vocabulary_size, 1, 16, 32, key_dim=8, dropout=dropout
    )
    model = MaskedLM(backbone, None)
    model.compile(
        keras.optimizers.AdamW(
            PiecewiseLinear(1e-2, {4: 1.0, steps: 0.1}),
            gradient_accumulation_steps=accumulation,
            global_clipnorm=1.0,
        ),
        keras.losses.SparseCategoricalCrossentropy(
            True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def run(records, folder, steps=STEPS, callbacks=(), model=None, every=ROUND, **options):
    """Train, or go on; the lines of the log."""
    source = Records(records, TOKENIZER, tokens_per_batch=64, window=4)
    objective = WholeWordMasking(TOKENIZER)
    return pretrain(
        model or build_model(),
        lambda step: pretraining_dataset(source, objective, step),
        steps,
        Checkpoints(folder, options.pop("settings", {"rate": 1e-2})),
        every,
        callbacks=callbacks,
        verbose=0,
        **options,
    )


def losses(lines):
    """What must be the same after a resume; the speed need not."""
    return [(line["step"], line["loss"], line["accuracy"]) for line in lines]


if __name__ == "__main__":
    run(*sys.argv[1:])
