"""The tokenizer that belongs to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.checkpoints import CheckpointError, open_checkpoint
from zoo.detection import detect
from zoo.preset import backbone_class
from zoo.released_config import ConfigError
from zoo.source import Source


def tokenizer_of(source: Source, **kwargs: Any) -> Any:
    """The tokenizer of a source whose files are on disk.

    Args:
        source: a `Source` with a path.
        **kwargs: arguments of `Tokenizer`; they win over what the model says.

    Raises:
        FileNotFoundError: there is no `vocab.txt`.
    """
    from bert4keras3.text import Tokenizer

    folder = source.folder
    assert folder is not None
    if source.preset is not None:
        vocabulary = source.preset.vocabulary
        settings: dict[str, Any] = {
            "lowercase": vocabulary.lowercase,
            "pre_tokenize": vocabulary.pre_tokenize,
            "zero_segments": source.preset.zero_segments,
        }
    else:
        settings = {
            "pre_tokenize": "jieba" if _is_word_level(folder) else None,
            "zero_segments": _has_zero_segments(source),
        }
    return Tokenizer.from_folder(folder, **{**settings, **kwargs})


def check_vocabulary_size(folder: Path, vocabulary_size: int) -> None:
    """Refuse a vocabulary that belongs to another embedding.

    Raises:
        ConfigError: `vocab.txt` has another number of tokens.
    """
    from bert4keras3.text import read_vocabulary

    path = folder / "vocab.txt"
    if not path.is_file():
        return
    size = len(read_vocabulary(path))
    if size != vocabulary_size:
        raise ConfigError(
            f"{path} holds {size} tokens, but the embedding of the checkpoint has "
            f"{vocabulary_size} rows: they belong to different models. Put the model's "
            "own vocabulary there."
        )


def _is_word_level(folder: Path) -> bool:
    """Whether a vocabulary holds whole Chinese words, which need jieba first."""
    from bert4keras3.text import read_vocabulary

    path = folder / "vocab.txt"
    if not path.is_file():
        return False
    tokens = list(read_vocabulary(path))
    words = sum(
        1 for token in tokens if sum("\u4e00" <= c <= "\u9fff" for c in token) > 1
    )
    return words > 0.02 * len(tokens)


def _has_zero_segments(source: Source) -> bool:
    assert source.path is not None
    try:
        with open_checkpoint(source.path) as checkpoint:
            architecture = detect(checkpoint).architecture
    except CheckpointError:
        # A folder with a vocabulary and no weights of ours.
        return False
    return bool(backbone_class(architecture).zero_segments)
