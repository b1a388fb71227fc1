"""Importing Keras without the notices of its backend's native code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_native_code() -> Iterator[None]:
    """Drops what native code writes to standard error inside the `with` block.

    TensorFlow reports the instruction sets of the processor and missing GPU drivers
    while it is imported, before any of its log levels applies. Exceptions are not
    touched: they leave the block, and print, as usual.

    Example:

    >>> with quiet_native_code():
    ...     import keras
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed: there is nothing to quieten
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
