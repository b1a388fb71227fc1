"""Whole-word masking with static shapes, in plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "MaskedBatch",
    "WholeWordMasker",
    "check_masking_shares",
    "number_of_predictions",
]

NO_WORD = -1


@dataclass(frozen=True)
class MaskedBatch:
    """One masked batch, every array of a shape that does not depend on the data.

    Attributes:
        token_ids: int32 `(batch, length)`, the corrupted input.
        mask_positions: int32 `(batch, predictions)`, ascending, then zeros.
        mask_ids: int32 `(batch, predictions)`, the original tokens there.
        mask_weights: float32 `(batch, predictions)`, 1 for a real prediction.
    """

    token_ids: np.ndarray
    mask_positions: np.ndarray
    mask_ids: np.ndarray
    mask_weights: np.ndarray


def number_of_predictions(length: int, mask_rate: float = 0.15) -> int:
    """Return how many gathered positions a row of `length` tokens needs.

    The mean is `mask_rate * length`; half a standard deviation of room (words
    are a little under two tokens) is enough for most rows, and a multiple of four
    keeps the matrix products aligned.

    Args:
        length: int, the padded length of a row.
        mask_rate: float, the share of words that is predicted.

    Returns:
        int, at most `length`.

    Example:

    >>> number_of_predictions(128)
    20
    """
    mean = mask_rate * length
    room = np.sqrt(1.8 * mean * (1.0 - mask_rate))
    return int(min(length, 4 * max(1, round((mean + 0.5 * room) / 4))))


def check_masking_shares(
    mask_rate: float, mask_share: float, keep_share: float
) -> None:
    """Refuse shares of words that are out of range.

    Raises:
        ValueError: they are.
    """
    if not 0.0 < mask_rate < 1.0:
        raise ValueError(
            f"mask_rate is the share of words to predict and lies in (0, 1), "
            f"not {mask_rate}; the usual value is 0.15."
        )
    if min(mask_share, keep_share) < 0.0 or mask_share + keep_share > 1.0:
        raise ValueError(
            f"mask_share={mask_share} and keep_share={keep_share} are shares of "
            f"the chosen words: neither may be negative and their sum may not "
            f"exceed 1."
        )


class WholeWordMasker:
    """Choose whole words to predict and corrupt them, as GAU-α was pretrained.

    One number r, uniform on [0, 1), is drawn for each *word*: below 0.12 every token
    of the word becomes `[MASK]`, below 0.135 the word is kept, below 0.15 each of its
    tokens becomes a random one; the word is predicted in all three cases
    (https://kexue.fm/archives/9052). The three bounds scale with `mask_rate`.

    A row with more predictions than `predictions` gives up whole words drawn at
    random, so a word is never half masked. A row with words but without any chosen
    word gets one, so that single short sentences teach something too.

    Args:
        mask_token_id: int, the id of `[MASK]`.
        random_ids: 1-D integer array, the ids that a random replacement is drawn
            from. Leave special tokens out of it.
        mask_rate: float in (0, 1), the share of words that is predicted.
        mask_share: float, the share of the chosen words that is masked.
        keep_share: float, the share of the chosen words that is left unchanged. The
            rest of the chosen words is replaced by random tokens.
        token_share: float, the share of rows in which every token counts as a word.
            GAU-α had none; a small model learns sooner with some, and learns to fill
            a blank inside a word.

    Raises:
        ValueError: if a rate is out of range or `random_ids` is empty.

    Example:

    >>> masker = WholeWordMasker(103, np.arange(106, 12000))
    >>> token_ids = np.array([[101, 500, 501, 502, 102, 0]], "int32")
    >>> word_ids = np.array([[-1, 0, 0, 1, -1, -1]], "int32")
    >>> batch = masker(token_ids, word_ids, 4, np.random.default_rng(0))
    >>> batch.mask_positions.shape
    (1, 4)
    """

    def __init__(
        self,
        mask_token_id: int,
        random_ids: np.ndarray,
        mask_rate: float = 0.15,
        mask_share: float = 0.8,
        keep_share: float = 0.1,
        token_share: float = 0.0,
    ):
        check_masking_shares(mask_rate, mask_share, keep_share)
        if not 0.0 <= token_share <= 1.0:
            raise ValueError(
                f"token_share is a share of the rows and lies in [0, 1], not "
                f"{token_share}."
            )
        self.random_ids = np.asarray(random_ids, "int32").ravel()
        if self.random_ids.size == 0:
            raise ValueError(
                "random_ids is empty; pass the ids of the ordinary tokens, for "
                "example np.arange(106, 12000)."
            )
        self.mask_token_id = int(mask_token_id)
        self.mask_rate = mask_rate
        self.mask_share = mask_share
        self.keep_share = keep_share
        self.token_share = token_share

    def __call__(
        self,
        token_ids: np.ndarray,
        word_ids: np.ndarray,
        predictions: int,
        rng: np.random.Generator,
    ) -> MaskedBatch:
        """Mask one batch.

        Args:
            token_ids: integers `(batch, length)`.
            word_ids: integers `(batch, length)`: the number of the word a token
                belongs to, from 0 in each row, and -1 where nothing may be
                predicted (special tokens, padding).
            predictions: int, the number of gathered positions in a row.
            rng: `numpy.random.Generator`; the same state gives the same batch.

        Returns:
            A `MaskedBatch`; the inputs are left as they are.

        Raises:
            ValueError: if the shapes disagree or `predictions` is out of range.
        """
        token_ids = np.asarray(token_ids)
        word_ids = np.asarray(word_ids)
        if token_ids.ndim != 2 or token_ids.shape != word_ids.shape:
            raise ValueError(
                f"token_ids and word_ids must both be (batch, length), got "
                f"{token_ids.shape} and {word_ids.shape}."
            )
        if not 1 <= predictions <= token_ids.shape[1]:
            raise ValueError(
                f"predictions must lie between 1 and the length "
                f"{token_ids.shape[1]}, not {predictions}."
            )
        maskable = word_ids >= 0
        words = np.where(maskable, word_ids, 0)
        by_token = maskable & (rng.random((len(words), 1)) < self.token_share)
        words = np.where(by_token, np.arange(words.shape[1]), words)
        draw = self._draw_words(words, maskable, predictions, rng)
        draw = np.where(maskable, np.take_along_axis(draw, words, axis=1), 1.0)
        chosen = draw < self.mask_rate

        masked = draw < self.mask_rate * self.mask_share
        kept = draw < self.mask_rate * (self.mask_share + self.keep_share)
        noise = self.random_ids[
            rng.integers(0, self.random_ids.size, size=token_ids.shape)
        ]
        corrupted = np.where(chosen & ~kept, noise, token_ids)
        corrupted = np.where(masked, self.mask_token_id, corrupted)

        # A stable sort brings the chosen positions to the front in their order.
        order = np.argsort(~chosen, axis=1, kind="stable")[:, :predictions]
        real = np.take_along_axis(chosen, order, axis=1)
        original = np.take_along_axis(token_ids, order, axis=1)
        return MaskedBatch(
            token_ids=corrupted.astype("int32"),
            mask_positions=np.where(real, order, 0).astype("int32"),
            mask_ids=np.where(real, original, 0).astype("int32"),
            mask_weights=real.astype("float32"),
        )

    def _draw_words(
        self,
        words: np.ndarray,
        maskable: np.ndarray,
        predictions: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return the number r of every word, at least one and never too many chosen."""
        batch, length = words.shape
        draw = rng.random((batch, length))
        priority = rng.random((batch, length))
        rescue = rng.random((batch,)) * self.mask_rate
        sizes = np.zeros((batch, length), "int64")
        rows = np.broadcast_to(np.arange(batch)[:, None], words.shape)
        np.add.at(sizes, (rows[maskable], words[maskable]), 1)

        draw[sizes == 0] = 1.0
        draw[sizes > predictions] = 1.0
        # Rows without a chosen word: the word of highest priority is taken.
        usable = (sizes > 0) & (sizes <= predictions)
        empty = usable.any(axis=1) & ~(draw < self.mask_rate).any(axis=1)
        best = np.argmax(np.where(usable, priority, -1.0), axis=1)
        draw[empty, best[empty]] = rescue[empty]
        # Rows with too many: words are taken in random order while they fit.
        counts = (sizes * (draw < self.mask_rate)).sum(axis=1)
        for row in np.flatnonzero(counts > predictions):
            left = predictions
            chosen = np.flatnonzero(draw[row] < self.mask_rate)
            for word in chosen[np.argsort(-priority[row, chosen])]:
                if sizes[row, word] <= left:
                    left -= sizes[row, word]
                else:
                    draw[row, word] = 1.0
        return draw
