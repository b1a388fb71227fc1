"""One vector per text, and which texts are near each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def sentence_vectors(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int = 512,
) -> np.ndarray:
    """Embeds texts with a backbone, as vectors of length 1.

    A model with a pooler gives its pooled output; that is what RoFormer-Sim was trained
    for. Any other model gives the mean of its hidden states over the real tokens.

    Args:
        model: a backbone, as `zoo.load` gives it.
        tokenizer: its tokenizer.
        texts: the texts, at least one.
        batch_size: texts per batch; texts of similar length share one.
        max_length: longer texts are cut to this many tokens.

    Returns:
        float32 array of shape `(texts, hidden_dim)`; its products are cosines.

    Raises:
        ValueError: `texts` is empty or a single string.

    Example:
        ```python
        model = zoo.load("gau-alpha-tiny")
        tokenizer = zoo.load_tokenizer("gau-alpha-tiny")
        vectors = sentence_vectors(model, tokenizer, ["天气真好", "今天天气不错"])
        print(vectors @ vectors.T)
        ```
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError(f"`texts` is a list of at least one text. Received {texts!r}.")
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    vectors: list[Any] = [None] * len(texts)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        inputs = tokenizer([texts[index] for index in indices], max_length=max_length)
        for index, vector in zip(indices, _pooled(model, inputs), strict=True):
            vectors[index] = vector
    stacked = np.stack(vectors)
    lengths = np.linalg.norm(stacked, axis=-1, keepdims=True)
    return stacked / np.maximum(lengths, 1e-12)


def _pooled(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import keras

    output = model(inputs, training=False)
    if isinstance(output, dict):
        return keras.ops.convert_to_numpy(output["pooled"]).astype("float32")
    mask = np.asarray(inputs["padding_mask"], "float32")[:, :, None]  # (B, T, 1)
    hidden = keras.ops.convert_to_numpy(output).astype("float32")  # (B, T, D)
    return (hidden * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1.0)


def nearest(vectors: np.ndarray) -> list[list[tuple[int, float]]]:
    """Ranks, for each vector, all the others by cosine.

    Args:
        vectors: float array of shape `(n, dim)` whose rows have length 1.

    Returns:
        For each row a list of `(index, cosine)`, nearest first, without itself.

    Example:

    >>> ranked = nearest(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
    >>> ranked[0] == [(1, 0.6), (2, 0.0)]
    True
    """
    cosines = vectors @ vectors.T
    ranked = []
    for row, values in enumerate(cosines):
        others = [index for index in np.argsort(-values, kind="stable") if index != row]
        ranked.append([(int(index), float(values[index])) for index in others])
    return ranked
