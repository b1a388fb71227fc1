"""Names of classes and their numbers."""

import difflib
import numbers

import numpy as np


def label_ids(labels, label_names, num_classes, place="row"):
    """Numbers of labels that are given by name or by number.

    Args:
        labels: sequence of strings or of integers.
        label_names: list of the names, or `None`.
        num_classes: how many classes there are.
        place: what the error text calls the places of the sequence.

    Returns:
        int32 array.

    Raises:
        ValueError: an unknown name, a name without `label_names`, or a number out of
            range; the text says at which place.
        TypeError: neither a string nor an integer.

    Example:

    >>> int(label_ids(["good"], ["bad", "good"], 2)[0])
    1
    """
    places = {name: place for place, name in enumerate(label_names or ())}
    ids = []
    for number, label in enumerate(labels):
        at = f"{place} {number}"
        if isinstance(label, str):
            ids.append(_id_of_name(label, places, at))
        elif isinstance(label, numbers.Integral | np.bool_):
            if not 0 <= label < num_classes:
                raise ValueError(
                    f"Label {int(label)} at {at} is not in [0, {num_classes}). "
                    "Build the task with more classes, or mend the labels."
                )
            ids.append(int(label))
        else:
            raise TypeError(
                "A label is a string or an integer. Received "
                f"{label!r} of type {type(label).__name__} at {at}."
            )
    return np.array(ids, "int32")


def _id_of_name(label, places, at):
    if not places:
        raise ValueError(
            f"The label {label!r} at {at} is a string, but the task knows no "
            "names. Build it with label_names=[...], in the order of the classes."
        )
    if label not in places:
        near = difflib.get_close_matches(label, list(places), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"The label {label!r} at {at} was not among the `label_names` that "
            f"the task was built with.{hint} Known: {', '.join(places)}."
        )
    return places[label]


def name_of(number, label_names):
    """Name of a class, or its number where classes have no names."""
    return number if label_names is None else label_names[number]


def check_label_names(label_names, num_classes, kind="classes"):
    """Names as a list, and how many classes there are.

    Args:
        label_names: sequence of strings, or `None`.
        num_classes: integer, or `None` for the number of names.
        kind: what they are names of, for the error text.

    Returns:
        `(list or None, int)`.

    Raises:
        ValueError: neither is given, they differ, or a name stands there twice.
    """
    if label_names is None:
        if num_classes is None or num_classes < 1:
            raise ValueError(
                f"The task needs label_names=[...] or the number of {kind}, at least "
                f"1. Received {num_classes}."
            )
        return None, int(num_classes)
    names = [str(name) for name in label_names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"`label_names` holds {twice} more than once.")
    if not names or num_classes not in (None, len(names)):
        raise ValueError(
            f"There are {len(names)} label_names, but {num_classes} {kind}."
        )
    return names, len(names)
