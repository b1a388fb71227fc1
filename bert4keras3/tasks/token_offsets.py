"""Where the tokens of a text stand in it."""

import keras
import numpy as np

from bert4keras3.tasks.task import to_numpy


def encode_with_offsets(preprocessor, texts, pairs=None):
    """Arrays of single texts, and the character span of each token.

    Args:
        preprocessor: a `TextPreprocessor`.
        texts: list of strings.
        pairs: must be `None`.

    Returns:
        `(inputs, offsets)`. `inputs` holds int32 `token_mask` `(B, T)` beside the usual
        arrays, 1 for the tokens of the text, and `offsets` for each text a list of
        half-open spans, one per token, `None` for special tokens.

    Raises:
        ValueError: pairs of texts.
    """
    if pairs is not None:
        raise ValueError("This task reads single texts. Received pairs.")
    tokenizer = preprocessor.tokenizer
    inputs = tokenizer(texts, length=preprocessor.sequence_length)
    shape = inputs["token_ids"].shape
    offsets = [
        [
            span if span is not None and span[1] > span[0] else None
            for span in tokenizer.encode(text, max_length=max(shape[1], 2)).offsets
        ]
        for text in texts
    ]
    mask = np.zeros(shape, "int32")
    for row, spans in enumerate(offsets):
        mask[row, : len(spans)] = [span is not None for span in spans]
    return {**inputs, "token_mask": mask}, offsets


def outputs_with_offsets(task, texts, batch_size=32):
    """What a task of single texts predicts, and where the tokens stand.

    Args:
        task: a `Task`.
        texts: list of strings.
        batch_size: texts per batch.

    Yields:
        `(texts, offsets, inputs, outputs)` of one batch, the last two NumPy arrays.

    Raises:
        ValueError: the task has no preprocessor.
    """
    preprocessor = task.required_preprocessor()
    for at in range(0, len(texts), batch_size):
        rows = texts[at : at + batch_size]
        inputs, offsets = encode_with_offsets(preprocessor, rows)
        outputs = keras.tree.map_structure(to_numpy, task.predict_on_batch(inputs))
        yield rows, offsets, inputs, outputs


def token_span(offsets, start, end):
    """First and last token of the characters `start .. end - 1`, both inclusive.

    A span that begins or ends inside a token is widened to it.

    Returns:
        A pair of integers, or `None` if an end of it was cut off or is no token.
    """
    inside = [
        place
        for place, span in enumerate(offsets)
        if span is not None and span[0] < end and span[1] > start
    ]
    if not inside or offsets[inside[-1]][1] < end or offsets[inside[0]][0] > start:
        return None
    return inside[0], inside[-1]
