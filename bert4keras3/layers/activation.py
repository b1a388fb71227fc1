"""Activations by name: those of Keras, and those that Keras lacks."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="bert4keras3")
def squared_relu(x):
    """`max(x, 0) ** 2`, the activation of Primer's feed-forward layer.

    Of any shape, in the dtype of `x`; above 256 it does not fit into float16. Source:
    https://arxiv.org/abs/2109.08668, section 4.

    Example:

    >>> float(squared_relu(np.array(3.0, "float32")))
    9.0
    """
    return ops.square(ops.relu(x))


ACTIVATIONS = {"squared_relu": squared_relu}


def get(identifier):
    """Return an activation for a name, a config or a function; `None` is linear.

    Args:
        identifier: name in `ACTIVATIONS`, or what `keras.activations.get` takes.

    Raises:
        ValueError: unknown name.
    """
    if isinstance(identifier, str):
        identifier = ACTIVATIONS.get(identifier, identifier)
    return keras.activations.get(identifier)


def get_all(identifiers):
    """List of activations, from one or from a list of them; see `get`.

    Raises:
        ValueError: an empty list, or an unknown name.
    """
    many = identifiers if isinstance(identifiers, list | tuple) else [identifiers]
    if not many:
        raise ValueError("`activation` must name at least one activation.")
    return [get(each) for each in many]


def serialize(identifiers):
    """Config of one activation, or of a list of them, that `get_all` reads back."""
    configs = [keras.activations.serialize(each) for each in get_all(identifiers)]
    return configs if isinstance(identifiers, list | tuple) else configs[0]
