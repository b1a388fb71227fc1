"""Smaller and compound vocabularies: `keep_tokens` and `compound_tokens`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Weights with one entry per token.
TOKEN_WEIGHTS = ("token_embedding/embeddings", "masked_lm_head/output_bias")


def vocabulary_edit(
    keep_tokens: Sequence[int] | None,
    compound_tokens: Sequence[Any] | None,
    vocabulary_size: int,
) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """How to cut and extend the weights that have one entry per token.

    Args:
        keep_tokens: ids to keep, in their new order; `None` for all.
        compound_tokens: new tokens, appended after the kept ones. Each is a list of ids
            of the *kept* vocabulary whose entries are averaged, or a pair of such a
            list and as many averaging weights.
        vocabulary_size: size of the released vocabulary.

    Returns:
        The new size, and a function from an old array to a new one.

    Raises:
        ValueError: an id is out of range or there twice, or weights do not add up.
    """
    keep = list(range(vocabulary_size)) if keep_tokens is None else list(keep_tokens)
    _check_ids(keep, vocabulary_size, "keep_tokens")
    if len(set(keep)) != len(keep):
        raise ValueError("`keep_tokens` holds an id twice; each may be kept once.")
    compounds = [_compound(each, len(keep)) for each in compound_tokens or ()]

    def edit(array: np.ndarray) -> np.ndarray:
        kept = array[keep]
        if not compounds:
            return kept
        new = [np.average(kept[ids], axis=0, weights=w) for ids, w in compounds]
        return np.concatenate([kept, np.stack(new).astype(kept.dtype)])

    return len(keep) + len(compounds), edit


def _compound(each: Any, size: int) -> tuple[list[int], list[float] | None]:
    weights = None
    if len(each) == 2 and isinstance(each[0], list | tuple | np.ndarray):
        each, weights = each
        if len(each) != len(weights) or not sum(weights):
            raise ValueError(
                f"A compound token needs one weight per id, not all zero. Received "
                f"{len(each)} ids and {len(weights)} weights."
            )
    ids = [int(i) for i in each]
    if not ids:
        raise ValueError("A compound token is made of at least one id.")
    _check_ids(ids, size, "compound_tokens")
    return ids, weights


def _check_ids(ids: Sequence[int], size: int, name: str) -> None:
    for i in ids:
        if not 0 <= i < size:
            raise ValueError(
                f"`{name}` holds the id {i}; ids run from 0 to {size - 1}."
            )
