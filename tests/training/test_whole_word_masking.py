"""Whole-word masking: proportions, whole words, static shapes, one seed one result."""

import numpy as np
import pytest

from bert4keras3.training.whole_word_masking import (
    WholeWordMasker,
    number_of_predictions,
)

CLS, SEP, MASK = 101, 102, 103
ORDINARY = np.arange(106, 12000)


def rows(batch, length, seed=0):
    """Rows of words of 1 to 4 tokens between [CLS] and [SEP], some with padding."""
    rng = np.random.default_rng(seed)
    token_ids = np.zeros((batch, length), "int32")
    word_ids = np.full((batch, length), -1, "int32")
    for row in range(batch):
        size = int(rng.integers(length // 2, length - 1))
        words = np.repeat(np.arange(size), rng.integers(1, 5, size))[:size]
        token_ids[row, : size + 2] = [CLS, *rng.choice(ORDINARY, size), SEP]
        word_ids[row, 1 : size + 1] = words
    return token_ids, word_ids


def predicted(batch, length):
    """A mask `(batch, length)` of the positions that count as predictions."""
    found = np.zeros((len(batch.token_ids), length), "bool")
    for row, (positions, weights) in enumerate(
        zip(batch.mask_positions, batch.mask_weights, strict=True)
    ):
        found[row, positions[weights > 0]] = True
    return found


def test_shares_of_words():
    token_ids, word_ids = rows(2000, 128)
    batch = WholeWordMasker(MASK, ORDINARY)(
        token_ids, word_ids, 60, np.random.default_rng(1)
    )
    chosen = predicted(batch, 128)
    first = (word_ids >= 0) & (np.diff(word_ids, axis=1, prepend=-1) != 0)
    words = chosen[first]
    after, before = batch.token_ids[first & chosen], token_ids[first & chosen]
    assert words.mean() == pytest.approx(0.15, abs=0.004)
    assert (after == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert (after == before).mean() == pytest.approx(0.1, abs=0.01)
    assert ((after != MASK) & (after != before)).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("predictions", [8, 24])
def test_words_are_predicted_whole(predictions):
    token_ids, word_ids = rows(300, 128)
    batch = WholeWordMasker(MASK, ORDINARY, mask_rate=0.3)(
        token_ids, word_ids, predictions, np.random.default_rng(2)
    )
    chosen = predicted(batch, 128)
    assert chosen.any()
    for row in range(len(token_ids)):
        for word in range(word_ids[row].max() + 1):
            part = chosen[row, word_ids[row] == word]
            assert part.all() or not part.any()
            corrupted = batch.token_ids[row, word_ids[row] == word]
            assert (corrupted == MASK).all() or not (corrupted == MASK).any()


def test_special_tokens_and_padding_are_never_touched():
    token_ids, word_ids = rows(200, 64)
    batch = WholeWordMasker(MASK, ORDINARY, mask_rate=0.9)(
        token_ids, word_ids, 64, np.random.default_rng(3)
    )
    untouchable = word_ids < 0
    np.testing.assert_array_equal(batch.token_ids[untouchable], token_ids[untouchable])
    assert not predicted(batch, 64)[untouchable].any()


def test_unchosen_tokens_stay_and_targets_are_the_originals():
    token_ids, word_ids = rows(100, 64)
    batch = WholeWordMasker(MASK, ORDINARY)(
        token_ids, word_ids, 24, np.random.default_rng(4)
    )
    chosen = predicted(batch, 64)
    np.testing.assert_array_equal(batch.token_ids[~chosen], token_ids[~chosen])
    originals = np.take_along_axis(token_ids, batch.mask_positions, axis=1)
    real = batch.mask_weights > 0
    np.testing.assert_array_equal(batch.mask_ids[real], originals[real])
    assert not batch.mask_ids[~real].any() and not batch.mask_positions[~real].any()


def test_shapes_and_dtypes_do_not_depend_on_the_data():
    masker = WholeWordMasker(MASK, ORDINARY)
    for token_ids, word_ids in (
        rows(6, 32),
        (np.zeros((6, 32), "int32"), np.full((6, 32), -1, "int32")),
    ):
        batch = masker(token_ids, word_ids, 8, np.random.default_rng(5))
        assert batch.token_ids.shape == (6, 32) and batch.token_ids.dtype == "int32"
        for array, dtype in (
            (batch.mask_positions, "int32"),
            (batch.mask_ids, "int32"),
            (batch.mask_weights, "float32"),
        ):
            assert array.shape == (6, 8) and array.dtype == dtype
    assert batch.mask_weights.sum() == 0


def test_same_generator_state_same_batch():
    token_ids, word_ids = rows(20, 64)
    kept = token_ids.copy()
    masker = WholeWordMasker(MASK, ORDINARY, token_share=0.5)
    one, two, other = (
        masker(token_ids, word_ids, 16, np.random.default_rng(seed))
        for seed in (6, 6, 7)
    )
    np.testing.assert_array_equal(one.token_ids, two.token_ids)
    np.testing.assert_array_equal(one.mask_positions, two.mask_positions)
    assert (one.token_ids != other.token_ids).any()
    np.testing.assert_array_equal(token_ids, kept)


def test_short_rows_always_predict_something():
    token_ids = np.array([[CLS, 500, 501, SEP]] * 200, "int32")
    word_ids = np.array([[-1, 0, 0, -1]] * 200, "int32")
    batch = WholeWordMasker(MASK, ORDINARY)(
        token_ids, word_ids, 4, np.random.default_rng(8)
    )
    assert (batch.mask_weights.sum(axis=1) == 2).all()
    assert 0.6 < (batch.token_ids[:, 1] == MASK).mean() < 0.95


def test_a_word_longer_than_the_room_is_left_alone():
    token_ids = np.array([[CLS, 500, 501, 502, SEP]], "int32")
    word_ids = np.array([[-1, 0, 0, 0, -1]], "int32")
    batch = WholeWordMasker(MASK, ORDINARY)(
        token_ids, word_ids, 2, np.random.default_rng(9)
    )
    assert batch.mask_weights.sum() == 0
    np.testing.assert_array_equal(batch.token_ids, token_ids)


def test_token_share_parts_words():
    token_ids, word_ids = rows(400, 128)
    batch = WholeWordMasker(MASK, ORDINARY, token_share=1.0)(
        token_ids, word_ids, 60, np.random.default_rng(10)
    )
    chosen = predicted(batch, 128)
    inside = (word_ids[:, 1:] == word_ids[:, :-1]) & (word_ids[:, 1:] >= 0)
    parted = (chosen[:, 1:] != chosen[:, :-1]) & inside
    # Neighbours are chosen independently: 2 * 0.15 * 0.85 of the pairs differ.
    assert parted.sum() / inside.sum() == pytest.approx(0.255, abs=0.01)


@pytest.mark.parametrize("rate", [0.15, 0.2, 0.4])
@pytest.mark.parametrize("length", [8, 32, 64, 128, 256, 512])
def test_room_for_predictions(length, rate):
    room = number_of_predictions(length, rate)
    assert rate * length * 0.95 < room <= length
    assert room % 4 == 0 and room < rate * length + 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_rate": 0.0}, "mask_rate"),
        ({"mask_rate": 1.0}, "mask_rate"),
        ({"mask_share": 0.9, "keep_share": 0.2}, "exceed 1"),
        ({"keep_share": -0.1}, "negative"),
        ({"random_ids": []}, "random_ids is empty"),
        ({"token_share": 1.5}, "token_share"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WholeWordMasker(**{"mask_token_id": MASK, "random_ids": ORDINARY, **arguments})


@pytest.mark.parametrize("predictions", [0, 65])
def test_predictions_out_of_range(predictions):
    masker = WholeWordMasker(MASK, ORDINARY)
    with pytest.raises(ValueError, match="between 1 and the length 64"):
        masker(*rows(2, 64), predictions, np.random.default_rng(0))


def test_shapes_must_agree():
    token_ids, word_ids = rows(2, 64)
    with pytest.raises(ValueError, match=r"must both be \(batch, length\)"):
        WholeWordMasker(MASK, ORDINARY)(
            token_ids, word_ids[:1], 8, np.random.default_rng(0)
        )
