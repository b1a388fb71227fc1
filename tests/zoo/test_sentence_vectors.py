"""Sentence vectors: pooled or mean over real tokens, in the order of the texts."""

import numpy as np
import pytest

from zoo.sentence_vectors import nearest, sentence_vectors


class Letters:
    """A tokenizer of one token per character, padded with 0."""

    def __call__(self, texts, max_length=None):
        rows = [[ord(letter) - 96 for letter in text][:max_length] for text in texts]
        length = max(map(len, rows))
        token_ids = np.zeros((len(rows), length), "int32")
        for token_row, row in zip(token_ids, rows, strict=True):
            token_row[: len(row)] = row
        return {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "padding_mask": token_ids > 0,
        }


class OneHot:
    """A model whose hidden state is the one-hot letter; padding gives rubbish."""

    def __init__(self, pooled=False):
        self.pooled = pooled
        self.batches = []

    def __call__(self, inputs, training=None):
        assert training is False
        token_ids = inputs["token_ids"]
        self.batches.append(token_ids.shape)
        hidden = np.eye(27, dtype="float32")[token_ids]
        hidden[..., 26] += 100.0 * (token_ids == 0)
        if self.pooled:
            return {"hidden_states": hidden, "pooled": hidden[:, 0]}
        return hidden


def test_mean_over_real_tokens_with_length_one():
    vectors = sentence_vectors(OneHot(), Letters(), ["aab", "b"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(vectors[0, [1, 2]], np.array([2, 1]) / np.sqrt(5))
    np.testing.assert_allclose(vectors[1, 2], 1.0)
    assert vectors[0, 26] == 0.0  # nothing of the padding


def test_pooled_output_is_preferred():
    vectors = sentence_vectors(OneHot(pooled=True), Letters(), ["ab", "ba"])
    assert vectors[0].argmax() == 1 and vectors[1].argmax() == 2


def test_order_and_batches():
    texts = ["ccccc", "a", "bbb", "dd", "eeee"]
    model = OneHot()
    vectors = sentence_vectors(model, Letters(), texts, batch_size=2)
    assert [int(row.argmax()) for row in vectors] == [3, 1, 2, 4, 5]
    assert [shape[0] for shape in model.batches] == [2, 2, 1]
    assert model.batches[0][1] == 2  # the two shortest share a batch


def test_max_length_cuts():
    model = OneHot()
    sentence_vectors(model, Letters(), ["abcdef"], max_length=4)
    assert model.batches == [(1, 4)]


@pytest.mark.parametrize("texts", [[], "one string"])
def test_texts_must_be_a_list(texts):
    with pytest.raises(ValueError, match="list of at least one text"):
        sentence_vectors(OneHot(), Letters(), texts)


def test_nearest_leaves_out_itself_and_sorts():
    angles = np.array([0.0, 0.1, 1.0, 3.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ranked = nearest(vectors)
    assert [[index for index, _ in row] for row in ranked] == [
        [1, 2, 3],
        [0, 2, 3],
        [1, 0, 3],
        [2, 1, 0],
    ]
    assert ranked[0][0][1] == pytest.approx(np.cos(0.1))
