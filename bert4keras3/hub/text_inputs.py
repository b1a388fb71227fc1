"""Texts to model inputs, from eager code and from `tf.data` pipelines alike."""

import keras
import numpy as np


def encode(preprocessor, x, **options):
    """Call a preprocessor of ours with what a KerasHub preprocessor receives.

    Args:
        preprocessor: see `bert4keras3.tasks.text_preprocessor`.
        x: a string, a list or array of strings, a string tensor, or a tuple of two of
            these for pairs; without a batch axis the outputs have none either.
        **options: further arguments of the preprocessor.

    Returns:
        What the preprocessor gives: arrays, or tensors while a `tf.data` pipeline is
        traced.

    Raises:
        ValueError: more than two segments, or texts of more than one axis.
    """
    import tensorflow as tf

    segments = list(x) if isinstance(x, tuple) else [x]
    if len(segments) > 2:
        raise ValueError(
            "These models read one text or a pair of texts. Received "
            f"{len(segments)} segments."
        )
    in_graph = not tf.executing_eagerly()
    segments = [tf.convert_to_tensor(s) if in_graph else _array(s) for s in segments]
    rank = len(segments[0].shape)
    if rank > 1:
        raise ValueError(
            "Pass a string or a one-dimensional batch of strings. Received texts with "
            f"{rank} axes. A pair of texts is a tuple, not a list."
        )
    if rank == 0:
        segments = [segment[None] for segment in segments]

    def run(*columns):
        texts, pairs = ([column.tolist() for column in columns] + [None])[:2]
        return preprocessor(texts, pairs, **options)

    outputs = _on_host(run, segments, preprocessor) if in_graph else run(*segments)
    if rank == 0:
        outputs = keras.tree.map_structure(lambda array: array[0], outputs)
    return outputs


def _array(segment):
    segment = segment.numpy() if hasattr(segment, "numpy") else segment
    return np.asarray(segment, dtype=object)


def _on_host(run, segments, preprocessor):
    """Tensors of what `run` gives; their shapes are known where texts do not matter."""
    import tensorflow as tf

    example = run(*[np.array(["a"], object) for _ in segments])
    parts = keras.tree.flatten(example)
    is_fixed = isinstance(preprocessor.sequence_length, int)
    arrays = tf.numpy_function(
        lambda *columns: keras.tree.flatten(run(*columns)),
        segments,
        [part.dtype for part in parts],
    )
    for array, part in zip(arrays, parts, strict=True):
        sizes = part.shape[1:] if is_fixed else [None] * (part.ndim - 1)
        array.set_shape([segments[0].shape[0], *sizes])
    return keras.tree.pack_sequence_as(example, arrays)
