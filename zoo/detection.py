"""Which architecture a checkpoint holds, told from its variables.

An architecture and a layout fit a checkpoint when the layout's table covers it wholly:
every weight of the encoder is there, and no tensor is left over that the table does not
know. So RoFormer, RoFormerV2 and GAU-α cannot be taken for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from zoo.checkpoints import Checkpoint, CheckpointError
from zoo.preset import BACKBONES, backbone_class

# What optimizers and counters leave in a training checkpoint, in any architecture.
TRAINING_STATE = (
    "global_step",
    "beta1_power*",
    "beta2_power*",
    "*/adam_m",
    "*/adam_v",
    "*/lamb_m",
    "*/lamb_v",
    "*/Adam",
    "*/Adam_1",
    "*AdamWeightDecayOptimizer*",
    "*LAMBOptimizer*",
    "training/*",
)
# Weights that a release may lack: parts of heads, and what only some sizes have.
OPTIONAL = ("masked_lm_head/", "pooler/", "next_sentence/", "embeddings_projection/")


@dataclass(frozen=True)
class Match:
    """An architecture and layout held against a checkpoint.

    Attributes:
        architecture: a key of `BACKBONES`.
        layout: a key of the backbone's `weight_maps`.
        num_layers: how many layers the names count.
        missing: released names that the table needs and the checkpoint lacks.
        unexpected: names in the checkpoint that the table does not know.
        dropped: names that are knowingly not used.
    """

    architecture: str
    layout: str
    num_layers: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the table covers the checkpoint wholly."""
        return self.num_layers > 0 and not self.missing and not self.unexpected

    @property
    def rows(self) -> list[Any]:
        """The table's rows, with layer indices."""
        from bert4keras3.models.weight_map import expand

        table = backbone_class(self.architecture).weight_maps[self.layout]
        return expand(table, self.num_layers)


def detect(checkpoint: Checkpoint) -> Match:
    """Tell the architecture and the layout of a checkpoint from its variables.

    Args:
        checkpoint: an open checkpoint.

    Returns:
        The `Match` that fits.

    Raises:
        CheckpointError: none fits; the message says which is nearest, what it lacks
            and what is left over.
    """
    matches = list(all_matches(checkpoint))
    for match in matches:
        if match.fits and _ranks_agree(match, checkpoint):
            return match
    nearest = min(matches, key=lambda match: len(match.missing + match.unexpected))
    raise CheckpointError(
        f"{checkpoint.path} is none of {', '.join(BACKBONES)}: its variables fit no "
        f"architecture wholly.\n{explain(nearest)}"
    )


def match_architecture(checkpoint: Checkpoint, architecture: str) -> Match:
    """The match of a checkpoint that must hold a given architecture.

    Raises:
        CheckpointError: it holds another one, or none.
    """
    found = detect(checkpoint)
    if found.architecture != architecture:
        raise CheckpointError(
            f"{checkpoint.path} holds weights of {found.architecture!r}, but "
            f"{architecture!r} was asked for. Load it by its path, or choose a model "
            f"of that architecture."
        )
    return found


def all_matches(checkpoint: Checkpoint) -> Iterator[Match]:
    """Every architecture and layout held against a checkpoint."""
    from bert4keras3.models.weight_map import count_layers, expand

    names = set(checkpoint.variables)
    for architecture in BACKBONES:
        backbone = backbone_class(architecture)
        dropped_patterns = (*backbone.dropped_weights, *TRAINING_STATE)
        for layout, table in backbone.weight_maps.items():
            num_layers = count_layers(table, names)
            rows = expand(table, num_layers)
            known = {row.released for row in rows}
            needed = {row.released for row in rows if not row.ours.startswith(OPTIONAL)}
            others = sorted(names - known)
            dropped = [name for name in others if _matches(name, dropped_patterns)]
            yield Match(
                architecture,
                layout,
                num_layers,
                missing=tuple(sorted(needed - names)),
                unexpected=tuple(sorted(set(others) - set(dropped))),
                dropped=tuple(dropped),
            )


def explain(match: Match, most: int = 8) -> str:
    """What keeps an architecture from fitting: `-` is missing, `+` is left over."""
    lines = [f"Nearest is {match.architecture!r} (names as in {match.layout!r}):"]
    for sign, names in (("-", match.missing), ("+", match.unexpected)):
        lines += [f"  {sign} {name}" for name in names[:most]]
        if len(names) > most:
            lines.append(f"  {sign} ... {len(names) - most} more")
    lines.append("(- is missing, + is left over)")
    return "\n".join(lines)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _ranks_agree(match: Match, checkpoint: Checkpoint) -> bool:
    """Tell layouts apart whose names are equal but number the weights differently."""
    for row in match.rows:
        info = checkpoint.variables.get(row.released)
        is_matrix = row.ours.endswith(("kernel", "embeddings")) or row.row is not None
        if info is not None and len(info.shape) != (2 if is_matrix else 1):
            return False
    return True
