"""The counting baselines are distributions, and know what they have counted."""

import numpy as np
import pytest

from bert4keras3.training.corpus import Corpus
from bert4keras3.training.count_model import CountModel
from bert4keras3.training.masked_lm_evaluation import evaluation_batches
from bert4keras3.training.whole_word_masking import WholeWordMasker

CLS, SEP, MASK = 7, 8, 9
LETTERS = "甲乙丙丁"


def tokenize(word):
    return [1 + LETTERS.index(character) for character in word]


@pytest.fixture
def corpus():
    return Corpus.from_documents(["甲 乙 丙 丁"] * 30 + ["甲 丙 丁"] * 10, tokenize)


@pytest.fixture
def model(corpus):
    return CountModel(10, [(corpus, 1.0)], (CLS, SEP, MASK), backoff=1.0)


@pytest.mark.parametrize("left", [1, CLS, MASK, 5])
@pytest.mark.parametrize("right", [3, SEP, MASK, 5])
def test_every_baseline_is_a_distribution(model, left, right):
    for name, guess in model.probabilities(left, right).items():
        assert guess.sum() == pytest.approx(1.0), name
        assert guess.min() > 0, name


def test_conditional_probability_by_hand(model):
    guess = model.probabilities(1, MASK)["left bigram"]
    unigram = model.unigram[2]
    assert guess[2] == pytest.approx((30 + unigram) / (40 + 1))


def test_neighbours_decide(model):
    guesses = model.probabilities(CLS, 3)
    assert guesses["left bigram"].argmax() == 1
    assert guesses["right bigram"].argmax() == 2
    assert guesses["left and right"].argmax() == 1


def test_a_masked_neighbour_tells_nothing(model):
    guesses = model.probabilities(MASK, MASK)
    for name in ("left bigram", "right bigram", "left and right"):
        np.testing.assert_allclose(guesses[name], model.unigram, rtol=1e-6)


def test_weights_count(corpus):
    other = Corpus.from_documents(["丁 丁"], tokenize)
    model = CountModel(10, [(corpus, 1.0), (other, 500.0)], (CLS, SEP, MASK))
    assert model.unigram.argmax() == 4


def test_score(model, corpus):
    masker = WholeWordMasker(MASK, [1], mask_share=1.0, keep_share=0.0)
    scores = model.score(evaluation_batches(corpus, masker, 8, 10, CLS, SEP))
    assert scores["left and right"]["accuracy"] > 0.8
    assert scores["left and right"]["nll"] < scores["unigram"]["nll"]
    assert scores["unigram"]["accuracy"] < 0.5
