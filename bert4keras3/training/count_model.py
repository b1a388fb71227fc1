"""Counting baselines for masked tokens: what a model must beat to have learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bert4keras3.training.corpus import Corpus

__all__ = ["CountModel"]

Batch = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


class CountModel:
    """Guess a masked token from counts of single tokens and of neighbours.

    With c the weighted counts of the training text, l and r the left and right
    neighbour, and 0 < k the strength of the back-off to the unigram p:

        p(w | l) = (c(l, w) + k p(w)) / (c(l) + k)        likewise p(w | r)
        p(w | l, r) ∝ p(w | l) p(w | r) / p(w)

    A neighbour that is masked too tells nothing, so that side falls back to p(w). The
    trigram (l, w, r), where it was seen, is mixed in with the product form as its
    back-off.

    Args:
        vocabulary_size: int.
        sources: pairs of a `Corpus` and its weight.
        special_ids: ids of `[CLS]`, `[SEP]` and `[MASK]`, in this order; the first two
            are the neighbours of the first and last token of a sentence.
        backoff: float, k.

    Example:

    >>> corpus = Corpus.from_documents(["甲 乙 甲 乙"], lambda w: [" 甲乙".index(w)])
    >>> model = CountModel(6, [(corpus, 1.0)], (3, 4, 5))
    >>> int(model.unigram.argmax())
    1
    """

    def __init__(
        self,
        vocabulary_size: int,
        sources: Sequence[tuple[Corpus, float]],
        special_ids: tuple[int, int, int],
        backoff: float = 5.0,
    ):
        self.size = vocabulary_size
        self.cls, self.sep, self.mask = special_ids
        self.backoff = backoff
        lefts, middles, rights, weights = [], [], [], []
        for corpus, times in sources:
            tokens = corpus.token_ids.astype("int64")
            left, right = np.roll(tokens, 1), np.roll(tokens, -1)
            left[corpus.sentence_starts[:-1]] = self.cls
            right[corpus.sentence_starts[1:] - 1] = self.sep
            lefts.append(left)
            middles.append(tokens)
            rights.append(right)
            weights.append(np.full(len(tokens), float(times)))
        left, middle, right = map(np.concatenate, (lefts, middles, rights))
        weight = np.concatenate(weights)
        counts = np.bincount(middle, weight, minlength=vocabulary_size) + 0.01
        self.unigram = counts / counts.sum()
        self._left = _table(left, middle, weight, vocabulary_size)
        self._right = _table(right, middle, weight, vocabulary_size)
        pair = left * vocabulary_size + right
        self._both = _table(pair, middle, weight, vocabulary_size)

    def probabilities(self, left: int, right: int) -> dict[str, np.ndarray]:
        """Return the distributions over the middle token.

        Args:
            left: int, the token before.
            right: int, the token after.

        Returns:
            A dict of `"unigram"`, `"left bigram"`, `"right bigram"` and
            `"left and right"`, each `(vocabulary_size,)`.
        """
        before = self._conditional(self._left, left, self.unigram)
        after = self._conditional(self._right, right, self.unigram)
        both = before * after / self.unigram
        both /= both.sum()
        if self.mask not in (left, right):
            both = self._conditional(self._both, left * self.size + right, both)
        return {
            "unigram": self.unigram,
            "left bigram": before,
            "right bigram": after,
            "left and right": both,
        }

    def score(self, batches: Iterable[Batch]) -> dict[str, dict[str, float]]:
        """Measure every baseline on batches of `evaluation_batches`.

        Args:
            batches: inputs, targets and weights of masked rows.

        Returns:
            Baseline to its `"nll"` (nats) and `"accuracy"` over all weighted positions.
        """
        totals: dict[str, np.ndarray] = {}
        for inputs, targets, weights in batches:
            token_ids, positions = inputs["token_ids"], inputs["mask_positions"]
            for row, column in zip(*np.nonzero(weights), strict=True):
                at = positions[row, column]
                target = targets[row, column]
                guesses = self.probabilities(
                    int(token_ids[row, at - 1]), int(token_ids[row, at + 1])
                )
                for name, guess in guesses.items():
                    seen = totals.setdefault(name, np.zeros(3))
                    seen += (-np.log(guess[target]), guess.argmax() == target, 1.0)
        return {
            name: {
                "nll": round(float(nll / number), 4),
                "accuracy": round(float(right / number), 4),
            }
            for name, (nll, right, number) in totals.items()
        }

    def _conditional(
        self,
        table: tuple[np.ndarray, np.ndarray, np.ndarray],
        key: int,
        backoff: np.ndarray,
    ) -> np.ndarray:
        keys, ids, counts = table
        first, last = np.searchsorted(keys, [key, key + 1])
        result = self.backoff * backoff
        result[ids[first:last]] += counts[first:last]
        return result / (self.backoff + counts[first:last].sum())


def _table(
    keys: np.ndarray, ids: np.ndarray, weights: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum the weights of equal (key, id) pairs; return them sorted by key."""
    pairs, inverse = np.unique(keys * size + ids, return_inverse=True)
    return pairs // size, pairs % size, np.bincount(inverse, weights)
