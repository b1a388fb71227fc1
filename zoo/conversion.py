"""From one released layout to another, with every part the weights hold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.checkpoints import Checkpoint, open_checkpoint
from zoo.detection import Match, detect
from zoo.loading import load, load_tokenizer
from zoo.saving import save
from zoo.source import Source, resolve


@dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Attributes:
        target: the folder or file that was made.
        model: the model that was written, a backbone or a `MaskedLM`.
        left_behind: released tensors of the source that the target does not have.
    """

    target: Path
    model: Any
    left_behind: tuple[str, ...]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str = "tf1",
    dtype: str | None = None,
) -> Conversion:
    """Writes the weights of one place in the layout of another.

    Carried over are the encoder, and the masked-LM head and the pooler where the source
    has them; the vocabulary goes along if it is there. Every other tensor of the source
    is named in the result.

    Args:
        source: whatever `zoo.load` takes.
        target: the folder, or the `.keras` file, to make; it must not exist.
        format: `"tf1"`, `"safetensors"` or `"keras"`, see `zoo.save`.
        dtype: dtype to store the weights in; not for `"keras"`.

    Returns:
        A `Conversion`.

    Raises:
        FileExistsError: the target exists.
        ValueError: unknown format, or a source that is no model of ours.

    Example:
        ```python
        convert("chinese_roformer-v2-char_L-6_H-384_A-6", "small", format="safetensors")
        ```
    """
    target = Path(target)
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already. Remove it or choose another.")
    found = resolve(source).fetched()
    assert found.path is not None
    if found.path.suffix == ".keras":
        model = load(found.path)
        save(model, target, format=format, dtype=dtype)
        return Conversion(target, model, ())
    with open_checkpoint(found.path) as checkpoint:
        match = detect(checkpoint)
        model = load(source, **_parts(match, checkpoint, found))
        left_behind = _left_behind(model, match, checkpoint)
    save(model, target, format=format, dtype=dtype, tokenizer=_tokenizer(found))
    return Conversion(target, model, left_behind)


def _parts(match: Match, checkpoint: Checkpoint, source: Source) -> dict[str, Any]:
    """Arguments of `load` for every part that the checkpoint holds whole."""
    released: dict[str, list[str]] = {}
    for row in match.rows:
        released.setdefault(row.ours.partition("/")[0], []).append(row.released)

    def holds(part: str) -> bool:
        return all(name in checkpoint.variables for name in released.get(part, ()))

    arguments: dict[str, Any] = {}
    if holds("masked_lm_head"):
        arguments["task"] = "masked_lm"
    if "pooler" in released and holds("pooler"):
        # What the pooler computes is known for released models; the original's default
        # is tanh. The stored weights are the same either way.
        known = source.preset and source.preset.config.get("pooler")
        arguments["pooler"] = known or "tanh"
    return arguments


def _left_behind(model: Any, match: Match, checkpoint: Checkpoint) -> tuple[str, ...]:
    ours = {variable.path for variable in model.weights}
    carried = {row.released for row in match.rows if row.ours in ours}
    return tuple(name for name in checkpoint.variables if name not in carried)


def _tokenizer(source: Source) -> Any:
    if source.folder is None or not (source.folder / "vocab.txt").is_file():
        return None
    return load_tokenizer(source.folder)
