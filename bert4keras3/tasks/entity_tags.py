"""Entities as spans of characters, and as BIO tags of them.

An entity is `(start, end, type)`, half-open. Tags are `O`, `B-type` for the first
character and `I-type` for the others.
"""

import numbers


def bio_names(types):
    """Names of all tags, `O` first.

    Example:

    >>> ", ".join(bio_names(["name"]))
    'O, B-name, I-name'
    """
    return ["O", *(f"{part}-{each}" for each in types for part in "BI")]


def tags_of_entities(length, entities, text=None):
    """BIO tags of a text of `length` characters, which errors quote if it is given.

    Raises:
        ValueError: an entity outside the text, empty, or over another one, which tags
            cannot say.

    Example:

    >>> " ".join(tags_of_entities(4, [(1, 3, "name")]))
    'O B-name I-name O'
    """
    tags = ["O"] * length
    for start, end, kind in sorted(entities):
        check_span(start, end, length, text)
        if any(tag != "O" for tag in tags[start:end]):
            raise ValueError(
                f"The entity ({start}, {end}, {kind!r}) overlaps another one, which "
                "tags cannot say. Use the task 'entity_recognizer' for nested entities."
            )
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tags


def entities_of_tags(tags):
    """Entities of BIO tags; an `I-` after anything but its own kind begins one.

    Example:

    >>> entities_of_tags(["O", "B-name", "I-name", "O"])[0]
    (1, 3, 'name')
    """
    entities, start, kind = [], None, None
    for place, tag in enumerate([*tags, "O"]):
        part, _, name = tag.partition("-")
        if start is not None and not (part == "I" and name == kind):
            entities.append((start, place, kind))
            start = None
        if part in ("B", "I") and start is None:
            start, kind = place, name
    return entities


def check_span(start, end, length, text=None):
    """Refuse a span that is empty or reaches outside its text.

    Raises:
        ValueError: such a span.
    """
    whole = isinstance(start, numbers.Integral) and isinstance(end, numbers.Integral)
    if not whole or not 0 <= start < end <= length:
        quoted = "" if text is None else f" ({text[:40]!r})"
        raise ValueError(
            f"The span ({start!r}, {end!r}) does not lie in a text of {length} "
            f"characters{quoted}. A span is two integers, and half-open: the end is "
            "the place after the last character."
        )
