"""Records of a corpus as batches of static shape, from any batch on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.record_manifest import Manifest, Shard
from bert4keras3.training.record_rows import NAMES, NUM_SPECIAL_TOKENS

__all__ = ["EpochPlan", "Records"]

NOTHING = -1  # the word, sentence and document of special tokens and of padding


@dataclass(frozen=True)
class EpochPlan:
    """What one epoch of a folder of records is cut into.

    Attributes:
        batches: how many there are.
        rows: rows in them.
        left_out: rows that did not fill a batch; others in each epoch.
        padding: share of the places of all batches that hold no token.
    """

    batches: int
    rows: int
    left_out: int
    padding: float


class Records:
    """The records that `build_records` wrote.

    An epoch is the shards in an order drawn anew, some at a time (a window), with the
    rows of a window shuffled, put into buckets by length and cut into full batches.
    Which rows are in a batch depends on the seed and the number of the batch alone,
    and reading can begin at any batch without reading those before its window.

    Args:
        folder: where the records are.
        tokenizer: the `Tokenizer` they were built with.
        lengths: integers, the lengths of padded rows, shortest first; the last is that
            of the records. `None` for that alone.
        tokens_per_batch: int, places of a batch, padding included; a batch has
            `tokens_per_batch // length` rows.
        seed: int.
        window: int, shards that are shuffled together.
        checksums: bool, whether to read every byte first and compare checksums;
            otherwise only sizes are compared.

    Raises:
        FileNotFoundError: the folder holds no finished records.
        ValueError: a shard is missing or altered, the vocabulary is another, or no row
            fits into the lengths and the batch.

    Example:

    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天气好"])
    >>> from bert4keras3.training.build_records import build_records
    >>> with open("text.txt", "w", encoding="utf-8") as file:
    ...     _ = file.write("天气 好 " * 30)
    >>> _ = build_records("text.txt", "records", tokenizer, 8, segmenter="spaces",
    ...                   processes=1)
    >>> records = Records("records", tokenizer, tokens_per_batch=32)
    >>> batch = next(records.batches().as_numpy_iterator())
    >>> batch["token_ids"].shape, int(batch["word_ids"].min())
    ((4, 8), -1)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tokenizer: Tokenizer,
        lengths: Sequence[int] | None = None,
        tokens_per_batch: int = 16384,
        seed: int = 0,
        window: int = 16,
        checksums: bool = True,
    ):
        self.folder = os.fspath(folder)
        self.manifest = Manifest.read(folder)
        self.manifest.check_vocabulary(tokenizer)
        self.manifest.check_files(folder, checksums)
        self.tokenizer = tokenizer
        longest = self.manifest.settings.length
        self.lengths = sorted(set(lengths or [longest]))
        self.tokens_per_batch = tokens_per_batch
        self.seed = seed
        self.window = window
        if self.lengths[-1] != longest:
            raise ValueError(
                f"The rows have up to {longest} tokens with [CLS] and [SEP], so the "
                f"last of `lengths` must be {longest}. Received {self.lengths}."
            )
        if tokens_per_batch < longest or window < 1:
            raise ValueError(
                f"A batch of tokens_per_batch={tokens_per_batch} must hold a row of "
                f"{longest}, and window={window} be at least one shard."
            )
        self.batch_sizes = [tokens_per_batch // length for length in self.lengths]
        self._shards = [shard for shard in self.manifest.shards if shard.rows]
        # Of each shard, by bucket: the rows, and their tokens.
        counts = np.stack([self._rows_by_bucket(shard) for shard in self._shards])
        self._rows, self._tokens = counts[:, 0], counts[:, 1]
        if not self.plan(0).batches:
            sizes = dict(zip(self.lengths, self.batch_sizes, strict=True))
            raise ValueError(
                f"The {self.manifest.counts['rows']} rows in {folder} do not fill one "
                f"batch; its rows by length are {sizes}. Lower `tokens_per_batch`, use "
                "fewer `lengths` or a wider `window`."
            )

    def plan(self, epoch: int) -> EpochPlan:
        """Say what an epoch is cut into, without reading a row."""
        sizes = np.array(self.batch_sizes)
        batches = rows = places = 0
        tokens = 0.0
        for window in self._windows(epoch):
            counts = self._rows[window].sum(0)
            full = counts // sizes * sizes
            batches += int((full // sizes).sum())
            rows += int(full.sum())
            places += int((full * self.lengths).sum())
            share = full / np.maximum(counts, 1)
            tokens += float((self._tokens[window].sum(0) * share).sum())
        left_out = self.manifest.counts["rows"] - rows
        return EpochPlan(batches, rows, left_out, 1.0 - tokens / max(1, places))

    def batches(self, first_batch: int = 0) -> Any:
        """Return the batches of all epochs, without end.

        Args:
            first_batch: int, the number of the batch to begin with.

        Returns:
            A `tf.data.Dataset` of dicts of int32 arrays `(rows, length)`: `token_ids`
            with `[CLS]`, `[SEP]` and padding of 0, and `word_ids`, `sentence_ids` and
            `document_ids`, counted from 0 in each row, and -1 where there is no text.
        """
        import tensorflow as tf

        if first_batch < 0:
            raise ValueError(f"Batches count from 0. Received {first_batch}.")
        signature = (
            tf.TensorSpec((None,), "string"),
            tf.TensorSpec((), "int64"),
            tf.TensorSpec((2,), "int64"),
            tf.TensorSpec((), "int64"),
        )
        windows = tf.data.Dataset.from_generator(
            lambda: self._reading(first_batch), output_signature=signature
        )
        options = tf.data.Options()
        options.deterministic = True
        # While one window is used up, the next is read.
        rows = windows.map(self._rows_of_window).prefetch(1)
        return rows.flat_map(self._batches_of_window).with_options(options)

    def _reading(self, first_batch: int) -> Iterator[tuple[Any, ...]]:
        """Yield files, rows, seed and how many batches to skip of each window."""
        for epoch in itertools.count():
            for number, window in enumerate(self._windows(epoch)):
                here = int((self._rows[window].sum(0) // self.batch_sizes).sum())
                if first_batch < here:
                    shards = [self._shards[index] for index in window]
                    files = [os.path.join(self.folder, shard.name) for shard in shards]
                    rows = sum(shard.rows for shard in shards)
                    draw = np.random.default_rng((self.seed, 1, epoch, number))
                    seed = draw.integers(2**62, size=2)
                    yield files, rows, seed, first_batch
                first_batch = max(0, first_batch - here)

    def _windows(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of the shards of each window."""
        random = np.random.default_rng((self.seed, 0, epoch))
        order = random.permutation(len(self._shards))
        return np.split(order, range(self.window, len(order), self.window))

    def _rows_by_bucket(self, shard: Shard) -> np.ndarray:
        """Return the rows, and the tokens with special ones, in each bucket."""
        lengths, numbers = np.array(shard.row_lengths).T
        padded = lengths + NUM_SPECIAL_TOKENS
        buckets = np.searchsorted(self.lengths, padded)
        size = len(self.lengths)
        rows = np.bincount(buckets, numbers, size)
        tokens = np.bincount(buckets, numbers * padded, size)
        return np.array([rows, tokens]).astype("int64")

    @staticmethod
    def _rows_of_window(files: Any, rows: Any, seed: Any, skip: Any) -> tuple[Any, Any]:
        """Read the serialized rows of some files, shuffled."""
        import tensorflow as tf

        dataset = tf.data.TFRecordDataset(files, "GZIP", num_parallel_reads=4)
        content = dataset.batch(rows).get_single_element()
        # Not by `shuffle`, whose order depends on TensorFlow's global seed as well.
        order = tf.argsort(tf.random.stateless_uniform(tf.shape(content), seed))
        return tf.gather(content, order), skip

    def _batches_of_window(self, content: Any, skip: Any) -> Any:
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices(content)
        dataset = dataset.map(self._parse, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.bucket_by_sequence_length(
            lambda row: tf.shape(row["token_ids"])[0],
            # A bucket ends below its boundary; the one behind the last stays empty.
            [length + 1 for length in self.lengths],
            [*self.batch_sizes, 1],
            padded_shapes={name: [None] for name in _IDS.values()},
            padding_values={
                name: np.int32(0 if name == "token_ids" else NOTHING)
                for name in _IDS.values()
            },
            pad_to_bucket_boundary=True,
            drop_remainder=True,
        )
        if len(self.lengths) == 1:  # known to who compiles the step
            shape = (self.batch_sizes[0], self.lengths[0])
            dataset = dataset.map(
                lambda batch: {n: tf.ensure_shape(batch[n], shape) for n in batch}
            )
        return dataset.skip(skip)

    def _parse(self, record: Any) -> dict[str, Any]:
        import tensorflow as tf

        kind = tf.io.RaggedFeature(tf.int64)
        row = tf.io.parse_single_example(record, dict.fromkeys(NAMES, kind))
        parts = {name: tf.cast(row[name], "int32") for name in NAMES}
        first = np.array([self.tokenizer.cls_token_id], "int32")
        last = np.array([self.tokenizer.sep_token_id], "int32")
        ids = {"token_ids": tf.concat([first, parts["token_ids"], last], 0)}
        for name in NAMES[1:]:
            lengths = parts[name]
            numbers = tf.repeat(tf.range(tf.size(lengths)), lengths)
            ids[_IDS[name]] = tf.pad(numbers, [[1, 1]], constant_values=NOTHING)
        return ids


_IDS = {name: name.replace("lengths", "ids") for name in NAMES}
