"""What the optimizers share: variables by their paths, and dense gradients."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from keras import ops

__all__ = ["check_patterns", "dense_gradient", "path_matches"]


def check_patterns(patterns: Iterable[str] | None, name: str) -> list[str]:
    """The patterns as a list, after a look at each.

    Args:
        patterns: regular expressions; `None` for none.
        name: what the argument is called, for the error text.

    Raises:
        ValueError: a single string, or a pattern that is no regular expression.

    Example:

    >>> len(check_patterns(["bias", "norm/"], "exclude"))
    2
    """
    if isinstance(patterns, str):
        raise ValueError(
            f"`{name}` is a list of patterns. Received the string {patterns!r}; "
            f"write [{patterns!r}]."
        )
    found = list(patterns or ())
    for pattern in found:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"`{name}` holds regular expressions that are searched in the paths "
                f"of variables. Received {pattern!r}: {error}."
            ) from error
    return found


def path_matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is found somewhere in a variable's path.

    Args:
        path: `variable.path`, such as `gau_0/output_dense/kernel`.
        patterns: regular expressions.

    Example:

    >>> path_matches("gau_0/query_scale/scale", ["bias$", "scale$"])
    True
    """
    return any(re.search(pattern, path) for pattern in patterns)


def dense_gradient(gradient: Any, variable: Any) -> Any:
    """A gradient as a tensor of its variable's shape and dtype.

    On TensorFlow an embedding's gradient holds the rows of a batch only, and a row
    that occurs twice is there twice. Optimizers whose steps depend on a whole
    variable need it summed.

    Args:
        gradient: tensor, or `tf.IndexedSlices`.
        variable: what it is the gradient of.

    Example:

    >>> weight = keras.Variable(np.ones((3, 2), "float32"))
    >>> tuple(dense_gradient(np.ones((3, 2), "float32"), weight).shape)
    (3, 2)
    """
    zeros = ops.zeros(variable.shape, dtype=variable.dtype)
    return ops.add(zeros, ops.cast(gradient, variable.dtype))
