"""What a model is to predict about a batch of records, drawn anew at each reading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.records import Records

__all__ = ["Objective", "pretraining_dataset"]


class Objective(ABC):
    """Base class: from a batch of `Records` to inputs, labels and weights.

    Made of TensorFlow operations on int32, so that `tf.data` runs it on all processors
    and no step waits for Python. Shapes depend on those of the batch alone. What is
    random depends on the seed alone.

    Args:
        tokenizer: `Tokenizer`; its special tokens are used.

    Call arguments:
        batch: dict of `token_ids`, `word_ids`, `sentence_ids` and `document_ids`, each
            `(B, T)`; see `Records.batches`.
        seed: two integers.

    Returns:
        `inputs`, a dict of `token_ids`, `segment_ids`, `padding_mask` `(B, T)` and
        `mask_positions` `(B, P)`; `labels`, int32 `(B, P)`; and `weights`, float32
        `(B, P)`, 1 where a prediction counts.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    @abstractmethod
    def __call__(self, batch: dict[str, Any], seed: Any) -> tuple[Any, Any, Any]: ...

    @staticmethod
    def document_numbers(batch: dict[str, Any]) -> Any:
        """Return the padding mask with the numbers of documents, from 1.

        `[CLS]` belongs to the first document of its row, `[SEP]` to the last.
        """
        import tensorflow as tf

        ids = batch["document_ids"]
        last = tf.reduce_max(ids, axis=1, keepdims=True)
        at = tf.range(tf.shape(ids)[1])
        numbers = tf.where(ids >= 0, ids, tf.where(at == 0, 0, last)) + 1
        return numbers * tf.cast(tf.not_equal(batch["token_ids"], 0), "int32")


def pretraining_dataset(
    records: Records | Sequence[tuple[Records, float]],
    objective: Objective | Sequence[tuple[Objective, float]],
    first_batch: int = 0,
    seed: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Any:
    """Return the batches that a step takes, without end, beginning with any of them.

    Of several records or objectives one is drawn for each batch, by its share. What
    batch `n` is depends on `n` and the seed alone, so training that goes on with batch
    `n` sees what it would have seen without a stop.

    Args:
        records: `Records`, or pairs of `Records` and a share.
        objective: `Objective`, or pairs of an `Objective` and a share.
        first_batch: int, the number of the batch to begin with.
        seed: int, another one draws other masks.
        part: number of this process and how many there are, where each of several
            processes gives its rows of every batch: `(keras.distribution.process_id(),
            2)`. All of them read all records.

    Returns:
        A `tf.data.Dataset` of `(inputs, labels, weights)`.

    Raises:
        ValueError: shares are not positive, there is nothing to draw from, or `part` is
            none of so many.
        tf.errors.InvalidArgumentError: while reading, rows that do not divide over the
            processes.
    """
    import tensorflow as tf

    process, processes = part
    if not 0 <= process < processes:
        raise ValueError(
            f"`part` is the number of this process, from 0, and how many there are. "
            f"Received {part}."
        )
    sources, source_shares = _with_shares(records, Records, "records")
    objectives, objective_shares = _with_shares(objective, Objective, "objective")
    draws = Draws(source_shares, (seed, 0))
    datasets = [
        source.batches(int(used))
        for source, used in zip(sources, draws.counts(first_batch), strict=True)
    ]
    batches = datasets[0]
    if len(datasets) > 1:
        batches = tf.data.Dataset.choose_from_datasets(
            datasets, draws.dataset(first_batch)
        )

    @tf.autograph.experimental.do_not_convert
    def apply(number: Any, choice: Any, batch: Any) -> Any:
        seeds = tf.stack([tf.constant(seed, "int64"), number])
        branches = [lambda each=each: each(batch, seeds) for each in objectives]
        if len(branches) == 1:
            whole = branches[0]()
        else:
            whole = tf.switch_case(tf.cast(choice, "int32"), branches)
        return whole if part == (0, 1) else _part_of(whole, *part)

    options = tf.data.Options()
    options.deterministic = True
    numbers = tf.data.Dataset.counter(first_batch)
    choices = Draws(objective_shares, (seed, 1)).dataset(first_batch)
    return (
        tf.data.Dataset.zip(numbers, choices, batches)
        .map(apply, num_parallel_calls=tf.data.AUTOTUNE)
        .with_options(options)
        .prefetch(tf.data.AUTOTUNE)
    )


def _part_of(batch: Any, process: int, processes: int) -> Any:
    """Return the rows of one process of several."""
    import tensorflow as tf

    first = tf.nest.flatten(batch)[0]
    if (rows := first.shape[0]) is None:  # several lengths, several numbers of rows
        rows = tf.shape(first)[0]
    divides = tf.debugging.assert_equal(
        rows % processes,
        0,
        f"The rows of a batch do not divide over {processes} processes: choose lengths "
        "and `tokens_per_batch` so that every batch has a multiple of them.",
    )
    size = rows // processes
    with tf.control_dependencies([divides] if divides is not None else []):
        return tf.nest.map_structure(
            lambda tensor: tensor[process * size : (process + 1) * size], batch
        )


class Draws:
    """A number for each batch, drawn by shares; the same whoever asks, in any order.

    Args:
        shares: positive numbers, of any sum.
        seed: integers.
    """

    block = 4096

    def __init__(self, shares: Sequence[float], seed: tuple[int, ...]):
        self.bounds = np.cumsum(shares)[:-1] / np.sum(shares)
        self.size = len(shares)
        self.seed = seed

    def _block(self, number: int) -> np.ndarray:
        uniform = np.random.default_rng((*self.seed, number)).random(self.block)
        return np.searchsorted(self.bounds, uniform, side="right")

    def counts(self, first: int) -> np.ndarray:
        """Return how often each was drawn before number `first`."""
        whole, rest = divmod(first, self.block)
        parts = [self._block(number) for number in range(whole)]
        parts.append(self._block(whole)[:rest])
        return np.bincount(np.concatenate(parts), minlength=self.size)

    def dataset(self, first: int) -> Any:
        """Return the draws from number `first` on as an int64 `tf.data.Dataset`."""
        import tensorflow as tf

        def numbers() -> Iterator[int]:
            block, at = divmod(first, self.block)
            while True:
                yield from self._block(block)[at:]
                block, at = block + 1, 0

        signature = tf.TensorSpec((), "int64")
        return tf.data.Dataset.from_generator(numbers, output_signature=signature)


def _with_shares(given: Any, kind: type, name: str) -> tuple[list[Any], list[float]]:
    """Return the things to draw from, and their shares."""
    pairs = [(given, 1.0)] if isinstance(given, kind) else list(given)
    wrong = [pair for pair in pairs if not (len(pair) == 2 and pair[1] > 0)]
    if wrong or not pairs:
        raise ValueError(
            f"`{name}` is one of {kind.__name__}, or pairs of one and a share above 0, "
            f"as [(a, 0.7), (b, 0.3)]. Received {given!r}."
        )
    return [thing for thing, _ in pairs], [float(share) for _, share in pairs]
