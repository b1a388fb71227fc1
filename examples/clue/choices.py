"""What the scripts of this folder share whose task is to choose an answer."""

import numpy as np

import zoo


def build_chooser(options, num_choices):
    """A `MultipleChoice` that scores each choice by `[CLS]`, or by `--pooling`."""
    return zoo.load(
        options.model,
        weights=options.weights,
        task="multiple_choice",
        sequence_length=options.buckets,
        num_choices=num_choices,
        pooling=options.pooling,
        **options.sizes,
    )


def choice_logits(model, examples, options):
    """A score for each choice, `(examples, choices)`."""
    return model.predict(examples.x, batch_size=options.batch_size, verbose=0)


def accuracy(numbers, examples):
    """Share of right choices in per cent, as the figures of a run."""
    return {"accuracy": 100 * float(np.mean(np.array(numbers) == examples.y))}


def chance(train, examples):
    """Score of choosing blindly."""
    return {"accuracy": 100 * float(np.mean([1 / len(c) for c in examples.x[1]]))}
