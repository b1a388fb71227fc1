"""Tables that pair our variables with the tensors of the released files.

A table is a tuple of rows `(ours, released)` or `(ours, released, change)`; `{}` stands
for the layer index in both. `change` says how the released tensor is stored:

* `"T"`: transposed, as torch keeps the kernel of a linear layer;
* `"part i/n"`: ours is the `i`-th of `n` pieces side by side along the last axis
  (after undoing `T`), as GAU-α keeps three kernels in one;
* `"row i/n"`: ours is row `i` of `n`.

Rows of one released tensor stand together, in order. Reading and writing use the same
table, so what can be read can be written back.
"""

import re
from typing import NamedTuple


class Row(NamedTuple):
    """One of our variables and where a released file keeps it."""

    ours: str
    released: str
    transpose: bool = False
    part: int | None = None
    num_parts: int = 1
    row: int | None = None


def expand(table, num_layers):
    """Rows of a table with the layer indices filled in.

    Args:
        table: tuple of rows, see the module.
        num_layers: integer.

    Returns:
        List of `Row`, one per variable of ours; those of one released tensor follow
        each other.
    """
    rows = {}
    for ours, released, *change in table:
        indices = range(num_layers) if "{}" in ours else (None,)
        for index in indices:
            row = Row(
                ours.format(index), released.format(index), **_parse_change(*change)
            )
            rows.setdefault(row.released, []).append(row)
    return [row for group in rows.values() for row in group]


def count_layers(table, names):
    """How many layers the released `names` hold, by this table's naming."""
    highest = -1
    for _, released, *_ in table:
        if "{}" not in released:
            continue
        before, after = (re.escape(side) for side in released.split("{}"))
        pattern = re.compile(f"{before}([0-9]+){after}")
        for name in names:
            match = pattern.fullmatch(name)
            if match:
                highest = max(highest, int(match.group(1)))
    return highest + 1


def without_prefix(table, prefix):
    """The table of a file saved from the encoder alone, whose names lack a prefix."""
    return tuple(
        (ours, released.removeprefix(prefix), *change)
        for ours, released, *change in table
    )


def _parse_change(change=""):
    parsed = {}
    for match in re.finditer(r"(T)|(part|row) (\d+)/(\d+)", change):
        if match.group(1):
            parsed["transpose"] = True
        else:
            parsed[match.group(2)] = int(match.group(3))
            parsed["num_parts"] = int(match.group(4))
    return parsed
