"""Moving weights between a model and a checkpoint, strictly in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from zoo.checkpoints import Checkpoint, CheckpointError
from zoo.detection import OPTIONAL

Edit = Callable[[np.ndarray], np.ndarray]


def assign(
    model: Any,
    checkpoint: Checkpoint,
    rows: Sequence[Any],
    *,
    new_weights: frozenset[str] = frozenset(),
    edits: Mapping[str, Edit] | None = None,
) -> list[str]:
    """Give every weight of a model its value from a checkpoint.

    Shapes are checked before the first weight is touched; then one tensor is read at a
    time, so memory holds the model and one tensor.

    Args:
        model: a built Keras model.
        checkpoint: an open checkpoint.
        rows: the expanded weight table, see `bert4keras3.models.weight_map`.
        new_weights: paths that the release does not have and that keep their
            initial values.
        edits: path of a weight -> change of its array, such as a choice of rows.

    Returns:
        Released names that were not used because the model has no such head or part.

    Raises:
        CheckpointError: a weight has no tensor, a tensor no weight, or a shape differs.
    """
    edits = edits or {}
    variables = {variable.path: variable for variable in model.weights}
    groups = [
        (released, list(group))
        for released, group in groupby(rows, key=lambda row: row.released)
    ]
    used: list[tuple[str, list[Any]]] = []
    unused: list[str] = []
    homeless: list[str] = []
    given: set[str] = set()
    for released, group in groups:
        if released not in checkpoint.variables:
            continue
        mine = [row for row in group if row.ours in variables]
        if not mine:
            is_part = group[0].ours.startswith(OPTIONAL)
            (unused if is_part else homeless).append(released)
            continue
        given.update(row.ours for row in mine)
        used.append((released, group))
    if missing := sorted(set(variables) - given - new_weights):
        by_path = {row.ours: row.released for row in rows}
        lines = [f"  - {by_path.get(path, '?')}  ({path})" for path in missing[:12]]
        raise CheckpointError(
            f"{checkpoint.path} lacks {len(missing)} weights that the model has:\n"
            + "\n".join(lines)
            + "\nLoad it without the part that needs them (such as `pooler` or "
            "`task`), or take a checkpoint that has it."
        )
    if homeless:
        raise CheckpointError(
            f"{checkpoint.path} holds {len(homeless)} weights that the model has no "
            f"place for, {homeless[0]!r} first. Sizes such as num_layers can be chosen "
            "freely only with weights=None."
        )
    if not edits:
        for released, group in used:
            _check_shapes(checkpoint, released, group, variables)
    for released, group in used:
        array = checkpoint.read(released)
        for row, piece in _pieces(array, group, variables):
            if row.ours in edits:
                piece = edits[row.ours](piece)
            variable = variables[row.ours]
            if tuple(variable.shape) != piece.shape:
                raise _shape_error(checkpoint, released, variable, piece.shape)
            variable.assign(piece)
    return unused


def collect(
    model: Any, rows: Sequence[Any], dtype: str | None = None
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """The released tensors of a model, each made only when it is asked for.

    Args:
        model: a built Keras model.
        rows: the expanded weight table of the wanted layout.
        dtype: dtype of the tensors; that of the weights if `None`.

    Yields:
        Pairs of released name and a callable that gives the array. Parts that the
        model does not have are left out.

    Raises:
        ValueError: a weight has no row, so the layout cannot hold the model.
    """
    variables = {variable.path: variable for variable in model.weights}
    if homeless := sorted(set(variables) - {row.ours for row in rows}):
        raise ValueError(
            f"The layout has no place for {len(homeless)} weights of the model, "
            f"{', '.join(homeless[:5])} among them. Save the model as .keras, or save "
            "its backbone alone."
        )
    for released, group in groupby(rows, key=lambda row: row.released):
        members = [row for row in group if row.ours in variables]
        if members:
            yield released, _join(members, variables, dtype)


def _join(
    rows: Sequence[Any], variables: Mapping[str, Any], dtype: str | None
) -> Callable[[], np.ndarray]:
    def make() -> np.ndarray:
        import keras

        ops = keras.ops
        arrays = [
            ops.convert_to_numpy(ops.convert_to_tensor(variables[row.ours]))
            for row in rows
        ]
        if rows[0].row is not None:
            array = np.stack(arrays)
        else:
            array = np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0]
        if rows[0].transpose:
            array = array.T
        if dtype is not None:
            array = array.astype(_numpy_dtype(dtype))
        return np.ascontiguousarray(array)

    return make


def _numpy_dtype(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(name)


def _pieces(
    array: np.ndarray, rows: Sequence[Any], variables: Mapping[str, Any]
) -> Iterator[tuple[Any, np.ndarray]]:
    """Cut a released tensor into our weights."""
    if rows[0].transpose:
        array = array.T
    start = 0
    for row in rows:
        if row.row is not None:
            yield row, array[row.row]
        elif row.part is not None:
            width = variables[row.ours].shape[-1]
            yield row, array[..., start : start + width]
            start += width
        elif row.ours in variables:
            yield row, array


def _check_shapes(
    checkpoint: Checkpoint,
    released: str,
    rows: Sequence[Any],
    variables: Mapping[str, Any],
) -> None:
    found = checkpoint.variables[released].shape
    members = [variables[row.ours] for row in rows if row.ours in variables]
    expected = tuple(members[0].shape)
    if rows[0].row is not None:
        expected = (rows[0].num_parts, *expected)
    elif rows[0].part is not None:
        expected = (*expected[:-1], sum(member.shape[-1] for member in members))
    if rows[0].transpose:
        expected = expected[::-1]
    if found != expected:
        raise _shape_error(checkpoint, released, members[0], found, expected)


def _shape_error(
    checkpoint: Checkpoint,
    released: str,
    variable: Any,
    found: tuple[int, ...],
    expected: tuple[int, ...] | None = None,
) -> CheckpointError:
    expected = expected or tuple(variable.shape)
    return CheckpointError(
        f"{checkpoint.path}: {released!r} has shape {found}, but the model needs "
        f"{expected} for {variable.path!r}. The config and the weights belong to "
        "different models, or an override changed a size: sizes can be chosen freely "
        "only with weights=None."
    )
