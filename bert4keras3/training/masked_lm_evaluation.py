"""What a masked language model gets right of held-out text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bert4keras3.training.corpus import Corpus
from bert4keras3.training.whole_word_masking import (
    WholeWordMasker,
    number_of_predictions,
)

__all__ = ["evaluate", "evaluation_batches", "masked_inputs"]


def masked_inputs(
    token_ids: np.ndarray,
    word_ids: np.ndarray,
    masker: WholeWordMasker,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Mask one batch of rows and give it the form that `fit` takes.

    Args:
        token_ids: int32 `(batch, length)`.
        word_ids: int32 `(batch, length)`, see `WholeWordMasker`.
        masker: the `WholeWordMasker`.
        rng: `numpy.random.Generator`.

    Returns:
        The inputs `token_ids`, `segment_ids`, `padding_mask` `(batch, length)` and
        `mask_positions` `(batch, predictions)`, the targets and their weights, both
        `(batch, predictions)`.
    """
    predictions = number_of_predictions(token_ids.shape[1], masker.mask_rate)
    batch = masker(token_ids, word_ids, predictions, rng)
    inputs = {
        "token_ids": batch.token_ids,
        "segment_ids": np.zeros_like(batch.token_ids),
        "padding_mask": token_ids != 0,
        "mask_positions": batch.mask_positions,
    }
    return inputs, batch.mask_ids, batch.mask_weights


def evaluation_batches(
    corpus: Corpus,
    masker: WholeWordMasker,
    length: int,
    batch_size: int,
    cls_token_id: int,
    sep_token_id: int,
    seed: int = 0,
) -> list[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """Return a fixed set of masked batches that covers a held-out corpus once.

    Args:
        corpus: the held-out `Corpus`.
        masker: a `WholeWordMasker`; a `mask_share` of 1 makes every prediction one of
            a `[MASK]`.
        length: int, tokens of a padded row.
        batch_size: int; the last batch is filled with rows of weight 0.
        cls_token_id: int.
        sep_token_id: int.
        seed: int.

    Returns:
        A list of inputs, targets and weights, as `masked_inputs` gives them.
    """
    packed = corpus.pack(length, fill=False)
    rng = np.random.default_rng(seed)
    batches = []
    for begin in range(0, len(packed), batch_size):
        indices = np.arange(begin, begin + batch_size)
        token_ids, word_ids = corpus.rows(
            packed, indices % len(packed), length, cls_token_id, sep_token_id
        )
        inputs, targets, weights = masked_inputs(token_ids, word_ids, masker, rng)
        weights[indices >= len(packed)] = 0.0
        batches.append((inputs, targets, weights))
    return batches


def evaluate(
    model: Any, batches: Iterable[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """Return the means over all masked positions of some batches.

    `Model.evaluate` would give each batch the same weight, however many predictions
    it holds.

    Args:
        model: a compiled masked language model whose losses and weighted metrics are
            means over the predictions.
        batches: what `evaluation_batches` returns.

    Returns:
        A dict of `"loss"` and every metric, rounded to four digits.
    """
    totals: dict[str, float] = {}
    count = 0.0
    for inputs, targets, weights in batches:
        model.reset_metrics()
        scores = model.test_on_batch(inputs, targets, weights, return_dict=True)
        for name, score in scores.items():
            totals[name] = totals.get(name, 0.0) + float(score) * float(weights.sum())
        count += float(weights.sum())
    model.reset_metrics()
    return {name: round(total / count, 4) for name, total in totals.items()}
