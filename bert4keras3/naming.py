"""Reading arguments: a variant by its name, and numbers with a lower end.

Rotary embeddings, normalizers, masks and norms are families of classes. Each
family is a table `{name: class}`; an argument takes a name, a serialized config
or an instance, and this module turns all three into an instance.
"""

import difflib
import functools

import keras


def lookup(name, table, kind):
    """Return `table[name]`.

    Args:
        name: string, a key of `table`.
        table: dict of the known names.
        kind: what the table holds, in words, for the error text.

    Raises:
        ValueError: the name is unknown; the text names the nearest and all of them.

    Example:

    >>> lookup("soft", {"soft": 1}, "normalizer")
    1
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), list(table), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"Unknown {kind} {name!r}.{hint} Known names: {', '.join(sorted(table))}."
    )


def resolve(identifier, table, kind, base):
    """Turn a name, a serialized config or an instance into an instance.

    Args:
        identifier: string in `table`, a config that
            `keras.saving.serialize_keras_object` made, or an instance of `base`.
        table: dict from name to class; the class is called without arguments.
        kind: what the table holds, in words, for the error text.
        base: class which the result must be an instance of.

    Raises:
        ValueError: unknown name.
        TypeError: neither a name, a config nor an instance of `base`.
    """
    if isinstance(identifier, str):
        return lookup(identifier, table, kind)()
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, base):
        return identifier
    raise TypeError(
        f"Expected a {kind}: one of {', '.join(sorted(table))}, or an instance of "
        f"{base.__name__}. Received: {identifier!r}."
    )


def resolve_scheme(identifier, table, kind, base, **arguments):
    """`resolve` for what a layer may do without: `None` stays `None`.

    Args:
        identifier, table, kind, base: see `resolve`.
        **arguments: of an instance that is made from a name, such as its dtype policy,
            and its name, so that the paths of its weights are always the same.
    """
    if identifier is None:
        return None
    made = {name: functools.partial(table[name], **arguments) for name in table}
    return resolve(identifier, made, kind, base)


def serialize_scheme(scheme):
    """Config of an instance, or `None`, that `resolve_scheme` reads back."""
    if scheme is None:
        return None
    config = keras.saving.serialize_keras_object(scheme)
    # The attention that owns a layer builds it; built earlier, its weights would be
    # outside that attention's path.
    config.pop("build_config", None)
    return config


def check_at_least(value, minimum, name, meaning):
    """Refuse an argument below its minimum.

    Args:
        value, minimum: numbers.
        name: what the argument is called, for the error text.
        meaning: what it stands for, in words.

    Raises:
        ValueError: `value` is below `minimum`, or not a number.
    """
    if not value >= minimum:
        raise ValueError(
            f"`{name}` must be at least {minimum} ({meaning}). Received {value}."
        )


def whole_number(value, name, meaning):
    """An argument as an `int`, of at least 1; see `check_at_least`.

    Raises:
        ValueError: `value` is below 1, or has a fraction.

    Example:

    >>> whole_number(4.0, "window", "a number of places")
    4
    """
    if int(value) != value or value < 1:
        raise ValueError(
            f"`{name}` must be a whole number of at least 1, {meaning}. "
            f"Received {value}."
        )
    return int(value)
