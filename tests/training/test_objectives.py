"""Objectives: whole units, the recipe's shares, no label that the input gives away."""

import numpy as np
import pytest
from record_sources import TOKENIZER, build, small_corpus, text

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.language_model_objectives import CausalLM, PrefixLM
from bert4keras3.training.masking_objectives import (
    NGramMasking,
    SpanMasking,
    TokenMasking,
    WholeWordMasking,
)
from bert4keras3.training.objective import Draws, pretraining_dataset
from bert4keras3.training.records import Records
from bert4keras3.training.whole_word_masking import number_of_predictions

MASK, SEP = TOKENIZER.mask_token_id, TOKENIZER.sep_token_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("corpus")
    (place / "text.txt").write_text(text(1500), encoding="utf-8")
    options = dict(across_documents=True, fill=True, block_characters=4000)
    build(place / "text.txt", place / "records", length=64, **options)
    return place / "records"


@pytest.fixture(scope="module")
def batch(folder):
    """256 rows of 64 tokens, as a dict of arrays."""
    records = Records(folder, TOKENIZER, tokens_per_batch=64 * 64, window=100)
    batches = list(records.batches().take(4).as_numpy_iterator())
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def apply(objective, batch, seed=(0, 0)):
    import tensorflow as tf

    tensors = {name: tf.constant(array) for name, array in batch.items()}
    inputs, labels, weights = objective(tensors, tf.constant(seed, "int64"))
    return (
        {name: tensor.numpy() for name, tensor in inputs.items()},
        labels.numpy(),
        weights.numpy(),
    )


def predicted(inputs, weights):
    """Booleans `(B, T)`: which tokens are predicted."""
    places = np.zeros(inputs["token_ids"].shape, bool)
    for row, column in zip(*np.nonzero(weights), strict=True):
        places[row, inputs["mask_positions"][row, column]] = True
    return places


MASKINGS = [WholeWordMasking, TokenMasking, NGramMasking, SpanMasking]


@pytest.mark.parametrize("kind", MASKINGS)
def test_labels_are_the_tokens_that_were_there(kind, batch):
    inputs, labels, weights = apply(kind(TOKENIZER), batch)
    assert labels.shape == (256, number_of_predictions(64))
    assert set(np.unique(weights)) == {0.0, 1.0} and (weights.sum(1) > 0).all()
    original = np.take_along_axis(batch["token_ids"], inputs["mask_positions"], 1)
    np.testing.assert_array_equal(labels, np.where(weights > 0, original, 0))
    places = predicted(inputs, weights)
    assert places.sum() == weights.sum()  # no place twice
    assert not places[batch["word_ids"] < 0].any()
    changed = inputs["token_ids"] != batch["token_ids"]
    assert not (changed & ~places).any()
    assert (inputs["segment_ids"] == 0).all()


@pytest.mark.parametrize("kind", [WholeWordMasking, NGramMasking, SpanMasking])
def test_words_are_never_split(kind, batch):
    inputs, _, weights = apply(kind(TOKENIZER), batch)
    places = predicted(inputs, weights)
    for row, words in enumerate(batch["word_ids"]):
        for word in range(words.max() + 1):
            assert len(set(places[row, words == word])) == 1
            masked = inputs["token_ids"][row, words == word] == MASK
            assert len(set(masked)) == 1


def shares(kind, batch, number=40, **options):
    """Tokens predicted per expected one, and the shares of masked and of kept ones."""
    import tensorflow as tf

    objective = kind(TOKENIZER, predictions=64, **options)
    tensors = {name: tf.constant(array) for name, array in batch.items()}
    total = masked = same = expected = 0
    for seed in range(number):
        inputs, _, weights = apply(objective, batch, (1, seed))
        places = predicted(inputs, weights)
        total += places.sum()
        masked += (places & (inputs["token_ids"] == MASK)).sum()
        same += (places & (inputs["token_ids"] == batch["token_ids"])).sum()
        first = tf.random.split(tf.constant((1, seed), "int64"), 5)[0]
        for units in objective.units(tensors, first).numpy():
            sizes = np.bincount(units[units >= 0])
            # A row without a chosen unit gets one.
            none = (1 - objective.mask_rate) ** len(sizes)
            expected += objective.mask_rate * sizes.sum() + none * sizes.mean()
    return total / expected, masked / total, same / total


@pytest.mark.parametrize("kind", MASKINGS)
def test_shares_are_those_of_the_recipe(kind, batch):
    rate, masked, same = shares(kind, batch)
    assert abs(rate - 1) < 0.02
    assert abs(masked - 0.8) < 0.012
    # A random token of the 23 of this vocabulary is the old one now and then.
    assert abs(same - (0.1 + 0.1 / 23)) < 0.012


def test_other_rates(batch):
    rate, masked, same = shares(
        WholeWordMasking, batch, mask_rate=0.3, mask_share=0.5, keep_share=0.5
    )
    assert abs(rate - 1) < 0.02
    assert abs(masked - 0.5) < 0.012 and abs(same - 0.5) < 0.012


def test_groups_have_the_sizes_of_their_shares(batch):
    objective = NGramMasking(TOKENIZER, shares=(0.0, 0.0, 1.0))
    import tensorflow as tf

    tensors = {name: tf.constant(array) for name, array in batch.items()}
    groups = objective.units(tensors, tf.constant([0, 0], "int64")).numpy()
    np.testing.assert_array_equal(
        groups, np.where(batch["word_ids"] >= 0, batch["word_ids"] // 3, -1)
    )
    span = SpanMasking(TOKENIZER, p=0.2, longest=10)
    sizes = np.concatenate(
        [
            np.bincount(np.unique(row_words * 1000 + row_groups) % 1000)
            for row_words, row_groups in zip(
                batch["word_ids"],
                span.units(tensors, tf.constant([3, 4], "int64")).numpy(),
                strict=True,
            )
        ]
    )
    assert sizes.max() <= 10
    expected = np.array([0.2 * 0.8**n for n in range(10)])
    np.testing.assert_allclose(span.bounds, np.cumsum(expected / expected.sum()), 1e-6)


def test_rows_with_too_many_give_up_whole_words(batch):
    objective = WholeWordMasking(TOKENIZER, mask_rate=0.5, predictions=5)
    inputs, _, weights = apply(objective, batch)
    places = predicted(inputs, weights)
    assert (places.sum(1) <= 5).all() and (places.sum(1) >= 4).mean() > 0.9
    for row, words in enumerate(batch["word_ids"]):
        chosen = set(words[places[row]])
        assert places[row].sum() == np.isin(words, list(chosen)).sum()


def test_packed_rows_are_numbered_by_document(batch):
    inputs, _, _ = apply(WholeWordMasking(TOKENIZER), batch)
    numbers = inputs["padding_mask"]
    words = batch["word_ids"] >= 0
    np.testing.assert_array_equal(numbers[words], batch["document_ids"][words] + 1)
    assert (numbers[:, 0] == 1).all() and numbers.max() > 1
    np.testing.assert_array_equal(numbers > 0, batch["token_ids"] != 0)
    assert (np.diff(np.where(numbers > 0, numbers, 99), axis=1) >= 0).all()


def test_causal_lm_predicts_each_next_token_of_its_document(batch):
    inputs, labels, weights = apply(CausalLM(TOKENIZER, segment_id=1), batch)
    np.testing.assert_array_equal(inputs["token_ids"], batch["token_ids"])
    assert (inputs["segment_ids"] == 1).all()
    numbers = inputs["padding_mask"]
    for row, column in np.ndindex(weights.shape):
        last = column + 1 == weights.shape[1]
        counts = not last and numbers[row, column] == numbers[row, column + 1] > 0
        assert weights[row, column] == counts
        following = 0 if not counts else batch["token_ids"][row, column + 1]
        assert labels[row, column] == following


def test_prefix_lm_parts_a_row_before_a_sentence(batch):
    inputs, labels, weights = apply(PrefixLM(TOKENIZER), batch)
    cuts = set()
    for row, ids in enumerate(inputs["token_ids"]):
        second = inputs["segment_ids"][row] == 1
        cut = int(second.argmax()) - 1
        assert ids[cut] == SEP
        old = batch["token_ids"][row]
        np.testing.assert_array_equal(ids[:cut], old[:cut])
        np.testing.assert_array_equal(ids[cut + 1 :], old[cut:-1])
        sentences = batch["sentence_ids"][row]
        assert sentences[cut] > sentences[cut - 1] or sentences.max() == 0
        np.testing.assert_array_equal(weights[row, :-1] > 0, second[1:])
        np.testing.assert_array_equal(labels[row, :-1][second[1:]], ids[1:][second[1:]])
        assert weights[row, -1] == 0 and (ids[second] != 0).all()
        cuts.add(cut)
    assert len(cuts) > 10


# --- the stream -----------------------------------------------------------------


def test_training_goes_on_with_any_batch(folder, tmp_path):
    small = small_corpus(tmp_path / "text")
    build(small, tmp_path / "records", length=64, across_documents=True)
    options = dict(tokens_per_batch=256, window=3)
    records = [
        (Records(folder, TOKENIZER, [32, 64], **options), 2),
        (Records(tmp_path / "records", TOKENIZER, [32, 64], **options), 1),
    ]
    objectives = [(WholeWordMasking(TOKENIZER), 1), (PrefixLM(TOKENIZER), 1)]
    batches = list(
        pretraining_dataset(records, objectives, seed=3).take(40).as_numpy_iterator()
    )
    kinds = {bool(inputs["segment_ids"].any()) for inputs, _, _ in batches}
    assert kinds == {False, True}
    for first in (1, 17, 39):
        (given,) = (
            pretraining_dataset(records, objectives, first, seed=3)
            .take(1)
            .as_numpy_iterator()
        )
        for ours, theirs in zip(given, batches[first], strict=True):
            for name in ours if isinstance(ours, dict) else [...]:
                np.testing.assert_array_equal(ours[name], theirs[name])


def test_one_length_gives_static_shapes(folder):
    records = Records(folder, TOKENIZER, tokens_per_batch=256)
    dataset = pretraining_dataset(records, WholeWordMasking(TOKENIZER))
    inputs, labels, weights = dataset.element_spec
    assert inputs["token_ids"].shape == (4, 64) and inputs["token_ids"].dtype == "int32"
    assert labels.shape == weights.shape == inputs["mask_positions"].shape == (4, 12)


def test_the_parts_of_two_processes_are_the_batch(folder):
    import tensorflow as tf

    objective = WholeWordMasking(TOKENIZER)
    for lengths, rows in (([64], 2), ([32, 64], None)):
        records = Records(folder, TOKENIZER, lengths, tokens_per_batch=256)
        whole, *parts = (
            pretraining_dataset(records, objective, 5, part=part)
            for part in ((0, 1), (0, 2), (1, 2))
        )
        assert parts[0].element_spec[1].shape[0] == rows
        for batch, *halves in tf.data.Dataset.zip(whole, *parts).take(6):
            joined = tf.nest.map_structure(lambda *two: tf.concat(two, 0), *halves)
            tf.nest.map_structure(np.testing.assert_array_equal, joined, batch)


def test_draws_follow_their_shares_from_any_number():
    draws = Draws([1, 3], (7, 0))
    drawn = np.array(list(draws.dataset(0).take(9000).as_numpy_iterator()))
    assert abs(drawn.mean() - 0.75) < 0.015
    for first in (0, 5, 4096, 8500):
        np.testing.assert_array_equal(
            draws.counts(first), np.bincount(drawn[:first], minlength=2)
        )
        again = list(draws.dataset(first).take(300).as_numpy_iterator())
        np.testing.assert_array_equal(again, drawn[first : first + 300])


# --- bad input ------------------------------------------------------------------


def test_what_cannot_be_drawn_is_refused(folder):
    records = Records(folder, TOKENIZER, tokens_per_batch=256)
    objective = CausalLM(TOKENIZER)
    for shares in ([(records, 0)], [(records,)], []):
        with pytest.raises(ValueError, match="`records` is one of Records, or pairs"):
            pretraining_dataset(shares, objective)
    with pytest.raises(ValueError, match="`objective` is one of Objective"):
        pretraining_dataset(records, [(objective, -1)])


def test_parts_that_are_none_of_so_many_or_do_not_divide(folder):
    import tensorflow as tf

    records = Records(folder, TOKENIZER, tokens_per_batch=256)
    objective = WholeWordMasking(TOKENIZER)
    with pytest.raises(ValueError, match="from 0, and how many"):
        pretraining_dataset(records, objective, part=(2, 2))
    error = (ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(error, match="do not divide over 3 processes"):
        next(iter(pretraining_dataset(records, objective, part=(0, 3))))


def test_masking_without_a_mask_token_or_with_odd_shares_is_refused():
    bare = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "好"], mask_token=None)
    with pytest.raises(ValueError, match="has no mask token"):
        WholeWordMasking(bare)
    with pytest.raises(ValueError, match="mask_rate is the share"):
        TokenMasking(TOKENIZER, mask_rate=1.5)
    with pytest.raises(ValueError, match="of one word, two words"):
        NGramMasking(TOKENIZER, shares=(0.0, 0.0))
    with pytest.raises(ValueError, match="`p` lies between 0 and 1"):
        SpanMasking(TOKENIZER, p=1.0)
