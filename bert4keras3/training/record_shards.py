"""One block of text to one shard of records, the same bytes wherever it runs."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.record_blocks import Block
from bert4keras3.training.record_manifest import Settings, Shard, file_digest
from bert4keras3.training.record_rows import RowEncoder
from bert4keras3.training.word_segmenters import Segment, word_segmenter

__all__ = ["ShardWriter"]


class ShardWriter:
    """Writes shards into a folder.

    What a shard holds depends on its block and the settings alone, not on the process
    or the order, so one process, many, and a cluster write the same files.

    Args:
        folder: where to; it exists.
        settings: `Settings`.
        tokenizer: `Tokenizer`.
        segmenter: see `word_segmenter`.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        tokenizer: Tokenizer,
        segmenter: str | Segment,
    ):
        self.folder = folder
        self.settings = settings
        self.encode = RowEncoder(
            tokenizer,
            word_segmenter(segmenter),
            settings.length,
            settings.across_documents,
            settings.fill,
        )

    def __call__(self, block: Block) -> Shard:
        """Write the shard of a block, whole or not at all.

        Returns:
            Its `Shard`.
        """
        # TensorFlow only here: reading and counting need none.
        import tensorflow as tf

        corpus = self.encode.corpus(block.documents)
        rows = list(self.encode.rows(corpus))
        random = np.random.default_rng((self.settings.seed, block.group, block.number))
        path = self.folder / block.shard_name
        partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        try:
            with tf.io.TFRecordWriter(str(partial), options) as writer:
                for index in random.permutation(len(rows)):
                    writer.write(rows[index].serialize())
            size, digest = partial.stat().st_size, file_digest(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        unknown = self.encode.tokenizer.unk_token_id
        return Shard(
            name=path.name,
            rows=len(rows),
            documents=len(block.documents),
            sentences=len(corpus.sentence_starts) - 1,
            words=int(corpus.word_starts.sum()),
            tokens=len(corpus.token_ids),
            unknown_tokens=int((corpus.token_ids == unknown).sum()),
            largest_token_id=int(corpus.token_ids.max(initial=-1)),
            row_lengths=tuple(
                sorted(Counter(len(row.token_ids) for row in rows).items())
            ),
            bytes=size,
            sha256=digest,
            source_sha256=block.digest,
        )
