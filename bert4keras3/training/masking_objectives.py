"""Masked language modelling: which tokens are hidden, by unit of text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.objective import Objective
from bert4keras3.training.whole_word_masking import (
    check_masking_shares,
    number_of_predictions,
)

__all__ = [
    "MaskedLM",
    "NGramMasking",
    "SpanMasking",
    "TokenMasking",
    "WholeWordMasking",
]


class MaskedLM(Objective):
    """Base class: hide units of text and predict their tokens.

    A number r, uniform on [0, 1), is drawn for each unit. Below `mask_rate` the unit
    is predicted: its tokens become `[MASK]` below `mask_rate * mask_share`, stay below
    `mask_rate * (mask_share + keep_share)`, and become random ones above. With the
    defaults these bounds are the 0.12, 0.135 and 0.15 of GAU-α
    (https://kexue.fm/archives/9052).

    A row with more predictions than there are places gives up whole units drawn at
    random, and a row without any gets one.

    Args:
        tokenizer: `Tokenizer`.
        mask_rate: float in (0, 1), the share of units that is predicted.
        mask_share: float, the share of these that becomes `[MASK]`.
        keep_share: float, the share of these that stays.
        predictions: int, places for predictions in a row; by default
            `number_of_predictions(T, mask_rate)`.
        random_ids: integers to draw random tokens from; by default every id but those
            of the special tokens and of `[unused...]`.

    Raises:
        ValueError: a share is out of range, or the tokenizer has no `[MASK]`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        mask_rate: float = 0.15,
        mask_share: float = 0.8,
        keep_share: float = 0.1,
        predictions: int | None = None,
        random_ids: Sequence[int] | None = None,
    ):
        super().__init__(tokenizer)
        check_masking_shares(mask_rate, mask_share, keep_share)
        if tokenizer.mask_token_id is None:
            raise ValueError(
                "The tokenizer has no mask token; masked language modelling needs one. "
                "Make it with Tokenizer(..., mask_token='[MASK]')."
            )
        self.mask_rate = mask_rate
        self.mask_share = mask_share
        self.keep_share = keep_share
        self.predictions = predictions
        self.random_ids = (
            ordinary_ids(tokenizer)
            if random_ids is None
            else np.asarray(random_ids, "int32")
        )

    @abstractmethod
    def units(self, batch: dict[str, Any], seed: Any) -> Any:
        """Number the units `(B, T)`, from 0 in each row; -1 where nothing is hidden.

        Args:
            batch: see `Objective`.
            seed: two integers.
        """

    def __call__(self, batch: dict[str, Any], seed: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        token_ids = batch["token_ids"]
        shape = tf.shape(token_ids)
        seeds = tf.random.split(seed, 5)
        predictions = self.predictions or self._places(token_ids)
        units = self.units(batch, seeds[0])
        hideable = units >= 0
        units = tf.where(hideable, units, 0)
        draw = self._draws(units, hideable, predictions, seeds[1:4])
        draw = tf.where(hideable, tf.gather(draw, units, batch_dims=1), 1.0)
        chosen = draw < self.mask_rate

        picks = tf.random.stateless_uniform(
            shape, seeds[4], 0, len(self.random_ids), "int32"
        )
        noise = tf.gather(self.random_ids, picks)
        kept = draw < self.mask_rate * (self.mask_share + self.keep_share)
        corrupted = tf.where(chosen & ~kept, noise, token_ids)
        masked = draw < self.mask_rate * self.mask_share
        corrupted = tf.where(masked, self.tokenizer.mask_token_id, corrupted)

        # A stable sort brings the chosen places to the front in their order.
        order = tf.argsort(tf.cast(~chosen, "int32"), axis=1, stable=True)
        order = order[:, :predictions]
        real = tf.gather(chosen, order, batch_dims=1)
        labels = tf.gather(token_ids, order, batch_dims=1)
        inputs = {
            "token_ids": corrupted,
            "segment_ids": tf.zeros_like(token_ids),
            "padding_mask": self.document_numbers(batch),
            "mask_positions": tf.where(real, order, 0),
        }
        return inputs, tf.where(real, labels, 0), tf.cast(real, "float32")

    def _places(self, token_ids: Any) -> Any:
        """Return `number_of_predictions`, which needs a length that is known."""
        import tensorflow as tf

        if (length := token_ids.shape[1]) is not None:
            return number_of_predictions(length, self.mask_rate)
        table = [0] + [
            number_of_predictions(length, self.mask_rate) for length in range(1, 4097)
        ]
        return tf.gather(table, tf.shape(token_ids)[1])

    def _draws(self, units: Any, hideable: Any, predictions: int, seeds: Any) -> Any:
        """Return the number r of each unit, at least one and never too many chosen."""
        import tensorflow as tf

        shape = tf.shape(units)
        draw, priority = (
            tf.random.stateless_uniform(shape, seeds[part]) for part in (0, 1)
        )
        ones = tf.reshape(tf.cast(hideable, "int32"), [-1])
        places = tf.reshape(units + tf.range(shape[0])[:, None] * shape[1], [-1])
        sizes = tf.math.unsorted_segment_sum(ones, places, shape[0] * shape[1])
        sizes = tf.reshape(sizes, shape)
        usable = (sizes > 0) & (sizes <= predictions)
        chosen = usable & (draw < self.mask_rate)
        # A row without a chosen unit: that of highest priority is taken.
        best = tf.argmax(tf.where(usable, priority, -1.0), axis=1, output_type="int32")
        rescued = tf.one_hot(best, shape[1], True, False) & usable
        rescued &= ~tf.reduce_any(chosen, axis=1, keepdims=True)
        spare = self.mask_rate * tf.random.stateless_uniform(shape, seeds[2])
        draw = tf.where(rescued, spare, draw)
        # A row with too many: units are taken by priority while they fit.
        order = tf.argsort(tf.where(chosen, -priority, 1.0), axis=1)
        places = tf.where(chosen, sizes, 0)
        filled = tf.cumsum(tf.gather(places, order, batch_dims=1), axis=1)
        fits = tf.gather(filled <= predictions, tf.argsort(order, axis=1), batch_dims=1)
        return tf.where(rescued | (chosen & fits), draw, 1.0)


class WholeWordMasking(MaskedLM):
    """Units are words, as GAU-α and RoFormerV2 were trained; see `MaskedLM`.

    Source: https://arxiv.org/abs/1906.08101.
    """

    def units(self, batch: dict[str, Any], seed: Any) -> Any:
        return batch["word_ids"]


class TokenMasking(MaskedLM):
    """Units are tokens, as BERT was trained; see `MaskedLM`.

    Source: https://arxiv.org/abs/1810.04805.
    """

    def units(self, batch: dict[str, Any], seed: Any) -> Any:
        import tensorflow as tf

        words = batch["word_ids"]
        return tf.where(words >= 0, tf.range(tf.shape(words)[1]), -1)


class NGramMasking(MaskedLM):
    """Units are one to so many consecutive words, as MacBERT was trained.

    The words of a row are parted into groups whose sizes are drawn from `shares`, and
    a group is a unit of `MaskedLM`.

    Source: https://arxiv.org/abs/2004.13922.

    Args:
        tokenizer: `Tokenizer`.
        shares: the shares of groups of one word, of two, and so on.
        **kwargs: of `MaskedLM`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        shares: Sequence[float] = (0.4, 0.3, 0.2, 0.1),
        **kwargs: Any,
    ):
        super().__init__(tokenizer, **kwargs)
        if not len(shares) or min(shares) < 0 or not sum(shares):
            raise ValueError(
                "`shares` are those of groups of one word, two words and so on, none "
                f"below 0, for example (0.4, 0.3, 0.2, 0.1). Received {shares}."
            )
        self.bounds = np.cumsum(shares).astype("float32") / np.float32(sum(shares))

    def units(self, batch: dict[str, Any], seed: Any) -> Any:
        import tensorflow as tf

        words = batch["word_ids"]
        uniform = tf.random.stateless_uniform(tf.shape(words), seed)
        sizes = 1 + tf.searchsorted(
            self.bounds[:-1], tf.reshape(uniform, [-1]), "right"
        )
        ends = tf.cumsum(tf.reshape(sizes, tf.shape(words)), axis=1)
        groups = tf.searchsorted(ends, words, "right")
        return tf.where(words >= 0, groups, -1)


class SpanMasking(NGramMasking):
    """Units are runs of words of a geometric length, as SpanBERT was trained.

    `P(n) = p (1 - p)^(n - 1)` for `n` up to `longest`, scaled to 1; see `NGramMasking`.

    Source: https://arxiv.org/abs/1907.10529, which has p = 0.2 and 10.

    Args:
        tokenizer: `Tokenizer`.
        p: float in (0, 1).
        longest: int, words.
        **kwargs: of `MaskedLM`.
    """

    def __init__(
        self, tokenizer: Tokenizer, p: float = 0.2, longest: int = 10, **kwargs: Any
    ):
        if not 0 < p < 1 or longest < 1:
            raise ValueError(
                f"`p` lies between 0 and 1 and `longest` is at least 1. Received "
                f"p={p}, longest={longest}."
            )
        shares = [p * (1 - p) ** n for n in range(longest)]
        super().__init__(tokenizer, shares, **kwargs)


def ordinary_ids(tokenizer: Tokenizer) -> np.ndarray:
    """Return the ids of all tokens but `[...]`, which text does not have."""
    named = [
        index
        for index, token in enumerate(tokenizer.vocabulary)
        if not (token.startswith("[") and token.endswith("]") and len(token) > 2)
    ]
    return np.array(named, "int32")
