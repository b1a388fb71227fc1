"""Batches of masked rows from weighted corpora, resumable at any step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bert4keras3.training.corpus import Corpus, PackedRows
from bert4keras3.training.whole_word_masking import (
    WholeWordMasker,
    number_of_predictions,
)

__all__ = ["MaskedLMDataset", "evaluate", "evaluation_batches", "masked_inputs"]


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


class MaskedLMDataset(keras.utils.PyDataset):
    """An endless stream of masked batches, cut into rounds for `fit`.

    Each batch has one length, drawn by `lengths`, and about `tokens_per_batch` tokens,
    so a compiled step exists once for each length. Rows below `fill_from` tokens end
    at sentence ends, longer ones are filled. Batch n is a function of `seed` and n
    alone: a resumed run sees what the unbroken one would have seen.

    Args:
        sources: pairs of a `Corpus` and its weight, the times that it is seen while a
            corpus of weight 1 is seen once.
        masker: a `WholeWordMasker`.
        lengths: row length to the share of batches that have it.
        tokens_per_batch: int, `batch * length` of every batch.
        steps: int, batches in a round.
        cls_token_id: int.
        sep_token_id: int.
        fill_from: int, the row length from which rows are filled.
        first_step: int, where to go on.
        seed: int.

    Raises:
        ValueError: if there is no text, or a length that no batch can hold.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Corpus, float]],
        masker: WholeWordMasker,
        lengths: Mapping[int, float],
        tokens_per_batch: int,
        steps: int,
        cls_token_id: int,
        sep_token_id: int,
        fill_from: int = 128,
        first_step: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.sources = [(corpus, weight) for corpus, weight in sources if len(corpus)]
        if not self.sources or min(weight for _, weight in self.sources) <= 0:
            raise ValueError(
                "sources needs at least one corpus with text, each of a positive "
                "weight."
            )
        if not lengths or max(lengths) > tokens_per_batch:
            raise ValueError(
                f"Every length must fit into tokens_per_batch={tokens_per_batch}; got "
                f"the lengths {sorted(lengths)}."
            )
        self.masker = masker
        self.lengths = np.array(sorted(lengths))
        shares = np.array([lengths[length] for length in sorted(lengths)], "float64")
        self._bounds = np.cumsum(shares / shares.sum())
        self.tokens_per_batch = tokens_per_batch
        self.steps = steps
        self.special = (cls_token_id, sep_token_id)
        self.fill_from = fill_from
        self.step = first_step
        self.seed = seed
        self._corpus = Corpus.concatenate([corpus for corpus, _ in self.sources])
        self._epochs: dict[int, tuple[int, PackedRows]] = {}

    def __len__(self) -> int:
        return self.steps

    def __getitem__(
        self, index: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        return self.batch(self.step + index)

    def on_epoch_end(self) -> None:
        """Go on where the round ended."""
        self.step += self.steps

    def batch(self, step: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return batch `step`: inputs, targets and weights as `masked_inputs` does."""
        draws = np.random.default_rng(self.seed).random(step + 1)
        choice = np.searchsorted(self._bounds[:-1], draws, side="right")
        length = int(self.lengths[choice[-1]])
        size = self.tokens_per_batch // length
        before = int((choice[:-1] == choice[-1]).sum())
        epoch, at = divmod(before, self._batches_in_epoch(length))
        token_ids, word_ids = self._corpus.rows(
            self._epoch(length, epoch),
            np.arange(at * size, (at + 1) * size),
            length,
            *self.special,
        )
        rng = np.random.default_rng((self.seed, 1, step))
        return masked_inputs(token_ids, word_ids, self.masker, rng)

    def _batches_in_epoch(self, length: int) -> int:
        """Return the same number for every epoch, though their cuts differ."""
        room = length - 2
        tokens = sum(weight * len(corpus.token_ids) for corpus, weight in self.sources)
        return max(1, int(tokens / room) // (self.tokens_per_batch // length))

    def _epoch(self, length: int, epoch: int) -> PackedRows:
        """Cut, weight and shuffle all sources; the last epoch of a length is kept."""
        kept = self._epochs.get(length)
        if kept is not None and kept[0] == epoch:
            return kept[1]
        rng = np.random.default_rng((self.seed, 2, length, epoch))
        starts: list[np.ndarray] = []
        stops: list[np.ndarray] = []
        base = 0
        for corpus, weight in self.sources:
            packed = corpus.pack(length, length >= self.fill_from, rng)
            whole, part = divmod(weight, 1)
            picks = np.tile(np.arange(len(packed)), int(whole))
            extra = rng.permutation(len(packed))[: round(part * len(packed))]
            picks = np.concatenate([picks, extra])
            starts.append(packed.starts[picks] + base)
            stops.append(packed.stops[picks] + base)
            base += len(corpus.token_ids)
        size = self.tokens_per_batch // length
        needed = self._batches_in_epoch(length) * size
        total = sum(len(part) for part in starts)
        order = np.resize(rng.permutation(total), needed)
        rows = PackedRows(np.concatenate(starts)[order], np.concatenate(stops)[order])
        self._epochs[length] = (epoch, rows)
        return rows


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
