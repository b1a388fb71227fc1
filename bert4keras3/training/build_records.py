"""From raw text to sharded records for pretraining, in parallel and resumable."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.record_blocks import Block, blocks_of
from bert4keras3.training.record_manifest import (
    Manifest,
    Settings,
    Shard,
    vocabulary_digest,
)
from bert4keras3.training.record_progress import Progress
from bert4keras3.training.record_shards import ShardWriter
from bert4keras3.training.word_segmenters import Segment, segmenter_name

__all__ = ["build_records", "settings_of"]


def settings_of(
    sources: str | Path | Iterable[str | Path],
    tokenizer: Tokenizer,
    length: int = 512,
    segmenter: str | Segment = "jieba",
    across_documents: bool = False,
    fill: bool = False,
    seed: int = 0,
    block_characters: int = 2_000_000,
    document_length: int = 1000,
    encoding: str = "utf-8",
    longest: int = 1_000_000,
) -> Settings:
    """Return the settings of a build; the arguments are those of `build_records`."""
    if isinstance(sources, str | Path):
        sources = [sources]
    if block_characters < 1:
        raise ValueError(
            f"block_characters={block_characters} makes no shard; it is the size of "
            "a block of text, usually a million or more."
        )
    cut = {
        name: getattr(tokenizer, name)
        for name in ("lowercase", "max_word_length", "token_translate")
    }
    before = tokenizer.pre_tokenize
    cut["pre_tokenize"] = None if before is None else segmenter_name(before)
    return Settings(
        length=length,
        across_documents=across_documents,
        fill=fill,
        segmenter=segmenter_name(segmenter),
        seed=seed,
        block_characters=block_characters,
        document_length=document_length,
        longest=longest,
        encoding=encoding,
        sources=tuple(map(str, sources)),
        vocabulary_size=tokenizer.vocabulary_size,
        vocabulary_sha256=vocabulary_digest(tokenizer),
        tokenizer=cut,
    )


def build_records(
    sources: str | Path | Iterable[str | Path],
    folder: str | Path,
    tokenizer: Tokenizer,
    length: int = 512,
    *,
    segmenter: str | Segment = "jieba",
    processes: int | None = None,
    show_progress: bool = True,
    **options: Any,
) -> Manifest:
    """Tokenize and pack a corpus into a folder of compressed records.

    Each record is a row of whole sentences with the bounds of its words, for masking
    anew at each reading (`Records`). The text is cut into blocks, each block becomes
    one shard, and what a shard holds depends on the text and the settings alone: any
    number of processes writes the same files, and an interrupted build goes on with
    the same call. The manifest appears last.

    Args:
        sources: files and folders of text; see `read_documents`.
        folder: where the records go; made if it does not exist.
        tokenizer: `Tokenizer`.
        length: int, tokens of a padded row, `[CLS]` and `[SEP]` included.
        segmenter: where words begin: `"jieba"`, `"spaces"` for text segmented before,
            `"characters"`, `"module:function"`, or a function that can be pickled.
        processes: int, how many work at once; all processors by default.
        show_progress: bool, whether to show a bar, where there is a terminal.
        **options: `across_documents` (bool, `False`: a row goes on with the next
            document), `fill` (bool, `False`: a row ends at a word and not at a
            sentence), `seed` (int, 0, of the order in a shard), `block_characters`
            (int, 2,000,000, the text of a shard), and `document_length`, `encoding`
            and `longest` of `read_documents`.

    Returns:
        The `Manifest`.

    Raises:
        FileNotFoundError: a source is missing.
        ValueError: the folder holds records with other settings or of a text that has
            changed since, or the sources hold no text, or text that cannot be read.

    Example:

    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天气好"])
    >>> _ = Path("text.txt").write_text("天气 好 。 好 天气", encoding="utf-8")
    >>> manifest = build_records(
    ...     "text.txt", "records", tokenizer, 16, segmenter="spaces", processes=1
    ... )
    >>> manifest.counts["words"], manifest.counts["unknown_tokens"]
    (5, 1)
    """
    settings = settings_of(sources, tokenizer, length, segmenter, **options)
    progress = Progress(folder, settings)
    writer = (progress.folder, settings, tokenizer, segmenter)
    count = processes or os.cpu_count() or 1
    hidden = None if show_progress else True  # None hides it where no terminal is

    def make_shards(groups: list[tuple[Path, ...]]) -> Iterator[Shard]:
        blocks = (
            block
            for number, files in enumerate(groups)
            for block in blocks_of(number, files, settings)
        )
        with tqdm(unit="token", unit_scale=True, disable=hidden) as bar:
            for shard in _shards(blocks, progress, writer, count):
                bar.update(shard.tokens)
                yield shard

    return progress.build(make_shards)


def _shards(
    blocks: Iterable[Block],
    progress: Progress,
    writer: tuple[Any, ...],
    processes: int,
) -> Iterator[Shard]:
    """Yield the shards of all blocks, in order; what is finished is not done again."""
    if processes == 1:
        write = ShardWriter(*writer)
        for block in blocks:
            yield progress.finished(block) or progress.note(write(block))
        return
    # Not forked: TensorFlow has threads, and a fork of those can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin_worker, writer) as pool:
        pending: deque[Shard | Future[Shard]] = deque()
        try:
            for block in blocks:
                done = progress.finished(block)
                pending.append(done or pool.submit(_work, block))
                # No more text in memory than keeps the processes busy.
                while len(pending) > 2 * processes:
                    yield _ended(pending.popleft(), progress)
            while pending:
                yield _ended(pending.popleft(), progress)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A process of the build was killed, mostly for want of memory. The "
                "shards that are finished stay; call again with fewer `processes`."
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _ended(shard: Shard | Future[Shard], progress: Progress) -> Shard:
    return shard if isinstance(shard, Shard) else progress.note(shard.result())


_worker: dict[str, ShardWriter] = {}


def _begin_worker(*writer: Any) -> None:
    _worker["write"] = ShardWriter(*writer)


def _work(block: Block) -> Shard:
    return _worker["write"](block)
