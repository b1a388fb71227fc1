"""Held-out batches cover a text once, the same each time."""

import numpy as np

from bert4keras3.training.corpus import Corpus
from bert4keras3.training.masked_lm_evaluation import evaluation_batches
from bert4keras3.training.whole_word_masking import WholeWordMasker

CLS, SEP, MASK = 101, 102, 103


def corpus_of(character, documents=60):
    text = " ".join([character * 2, character * 3, character, "。"] * 6)
    return Corpus.from_documents(
        [text] * documents, lambda word: [200 + "甲乙。".index(c) for c in word]
    )


def assert_same(one, two):
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], two[0][name])
    np.testing.assert_array_equal(one[1], two[1])
    np.testing.assert_array_equal(one[2], two[2])


def test_evaluation_batches_cover_the_text_once():
    corpus = corpus_of("甲")
    only_mask = WholeWordMasker(MASK, [300], mask_share=1.0, keep_share=0.0)
    batches = evaluation_batches(corpus, only_mask, 16, 7, CLS, SEP)
    rows = len(corpus.pack(16, fill=False))
    assert len(batches) == -(-rows // 7) and rows % 7
    counted = sum((weights.sum(axis=1) > 0).sum() for _, _, weights in batches)
    assert counted == rows
    again = evaluation_batches(corpus, only_mask, 16, 7, CLS, SEP)
    for one, two in zip(batches, again, strict=True):
        assert_same(one, two)
    for inputs, _, weights in batches:
        at = np.take_along_axis(inputs["token_ids"], inputs["mask_positions"], axis=1)
        assert (at[weights > 0] == MASK).all()
