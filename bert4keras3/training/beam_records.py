"""Records for pretraining on a cluster, by Apache Beam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.build_records import settings_of
from bert4keras3.training.record_blocks import Block, blocks_of
from bert4keras3.training.record_manifest import Manifest, Settings, Shard
from bert4keras3.training.record_progress import Progress
from bert4keras3.training.record_shards import ShardWriter
from bert4keras3.training.word_segmenters import Segment

try:
    import apache_beam as beam
except ImportError as error:
    raise ImportError(
        "Building records on a cluster needs Apache Beam: pip install "
        '"bert4keras3-zoo[beam]". On one machine use build_records, which gives the '
        "same records."
    ) from error

__all__ = ["build_records_with_beam"]


class ReadBlocks(beam.DoFn):
    """From a numbered group of files to its blocks."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def process(self, element: tuple[int, tuple[str, ...]]) -> Iterator[Block]:
        yield from blocks_of(*element, self.settings)


class WriteShard(beam.DoFn):
    """From a block to its shard, written and noted."""

    def __init__(
        self, folder: str, settings: Settings, tokenizer: Tokenizer, segmenter: Any
    ):
        self.arguments = (folder, settings, tokenizer, segmenter)

    def setup(self) -> None:
        """Build what is not sent: the segmenter's dictionary is large."""
        folder, settings, tokenizer, segmenter = self.arguments
        self.write = ShardWriter(Path(folder), settings, tokenizer, segmenter)
        self.progress = Progress(folder, settings)

    def process(self, block: Block) -> Iterator[Shard]:
        yield self.progress.finished(block) or self.progress.note(self.write(block))


def build_records_with_beam(
    sources: str | Path | Iterable[str | Path],
    folder: str | Path,
    tokenizer: Tokenizer,
    length: int = 512,
    *,
    segmenter: str | Segment = "jieba",
    pipeline_options: Any = None,
    **options: Any,
) -> Manifest:
    """Build the records of `build_records` as an Apache Beam pipeline.

    Groups of files are read side by side, their blocks spread over all workers. The
    shards are the very files that `build_records` writes, and either goes on with what
    the other began.

    Args:
        sources, folder, tokenizer, length, segmenter, **options: see `build_records`.
            Every worker must see the sources and the folder under the same paths, as on
            a shared file system. A `segmenter` that is a function must be importable
            there; `"module:function"` is the safe form.
        pipeline_options: `apache_beam.options.pipeline_options.PipelineOptions`: the
            runner and the address of your cluster. By default the direct runner, in
            this process.

    Returns:
        The `Manifest`, after the pipeline has ended.

    Raises:
        ImportError: Apache Beam is not installed (on import of this module).
        ValueError, FileNotFoundError: see `build_records`.
    """
    settings = settings_of(sources, tokenizer, length, segmenter, **options)
    progress = Progress(folder, settings)
    write = WriteShard(str(folder), settings, tokenizer, segmenter)

    def make_shards(groups: list[tuple[Path, ...]]) -> list[Shard]:
        named = [(at, tuple(map(str, files))) for at, files in enumerate(groups)]
        with beam.Pipeline(options=pipeline_options) as pipeline:
            _ = (
                pipeline
                | "groups of files" >> beam.Create(named)
                | "blocks of text" >> beam.ParDo(ReadBlocks(settings))
                | "spread over workers" >> beam.Reshuffle()
                | "shards" >> beam.ParDo(write)
                | "names" >> beam.Map(lambda shard: shard.name)
                | "all names" >> beam.combiners.ToList()
                | "list of names" >> beam.Map(progress.note_names)
            )
        return progress.noted()

    return progress.build(make_shards)
