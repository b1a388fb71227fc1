"""Masked batches: a function of seed and step, weighted, static by length."""

import numpy as np
import pytest

from bert4keras3.training.corpus import Corpus
from bert4keras3.training.masked_lm_dataset import MaskedLMDataset, evaluation_batches
from bert4keras3.training.whole_word_masking import WholeWordMasker

CLS, SEP, MASK = 101, 102, 103
MASKER = WholeWordMasker(MASK, np.arange(300, 400))


def corpus_of(character, documents=60):
    text = " ".join([character * 2, character * 3, character, "。"] * 6)
    return Corpus.from_documents(
        [text] * documents, lambda word: [200 + "甲乙。".index(c) for c in word]
    )


@pytest.fixture(scope="module")
def sources():
    return [(corpus_of("甲"), 3.0), (corpus_of("乙"), 0.5)]


def dataset(sources, **kwargs):
    defaults = {"lengths": {16: 0.5, 32: 0.5}, "tokens_per_batch": 256, "steps": 10}
    return MaskedLMDataset(
        sources,
        MASKER,
        **{**defaults, **kwargs},
        cls_token_id=CLS,
        sep_token_id=SEP,
    )


def assert_same(one, two):
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], two[0][name])
    np.testing.assert_array_equal(one[1], two[1])
    np.testing.assert_array_equal(one[2], two[2])


def test_a_resumed_run_sees_the_same_batches(sources):
    unbroken = dataset(sources)
    seen = [unbroken.batch(step) for step in range(30)]
    resumed = dataset(sources, first_step=20)
    for index in range(10):
        assert_same(resumed[index], seen[20 + index])
    other = dataset(sources, seed=1).batch(3)
    assert other[1].shape != seen[3][1].shape or (other[1] != seen[3][1]).any()


def test_a_round_follows_another(sources):
    data = dataset(sources)
    assert len(data) == 10
    expected = data.batch(12)
    data.on_epoch_end()
    assert_same(data[2], expected)


def test_batches_are_static_by_length(sources):
    data = dataset(sources)
    shapes = {}
    for step in range(60):
        inputs, targets, weights = data.batch(step)
        batch, length = inputs["token_ids"].shape
        assert batch * length == 256
        assert inputs["padding_mask"].shape == inputs["segment_ids"].shape
        np.testing.assert_array_equal(
            inputs["padding_mask"].sum(axis=1),
            1 + (inputs["token_ids"] == SEP).argmax(axis=1),
        )
        shapes.setdefault(length, set()).add((targets.shape, weights.shape))
    assert sorted(shapes) == [16, 32]
    assert all(len(found) == 1 for found in shapes.values())


def test_sources_are_seen_by_weight(sources):
    data = dataset(sources, lengths={16: 1.0})
    steps = data._batches_in_epoch(16)
    ids = np.concatenate(
        [data.batch(step)[0]["token_ids"].ravel() for step in range(steps)]
    )
    first, second = (ids == 200).sum(), (ids == 201).sum()
    assert first / second == pytest.approx(6.0, rel=0.15)


def test_epochs_differ(sources):
    data = dataset(sources, lengths={16: 1.0})
    steps = data._batches_in_epoch(16)
    assert steps > 1
    assert (data.batch(0)[1] != data.batch(steps)[1]).any()


def test_wrong_arguments(sources):
    with pytest.raises(ValueError, match="at least one corpus"):
        dataset([])
    with pytest.raises(ValueError, match="positive weight"):
        dataset([(sources[0][0], 0.0)])
    with pytest.raises(ValueError, match="must fit into tokens_per_batch"):
        dataset(sources, lengths={512: 1.0})


def test_evaluation_batches_cover_the_text_once(sources):
    corpus = sources[0][0]
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
