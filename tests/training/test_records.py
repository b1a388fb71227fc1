"""Batches of records: every row once, static shapes, from any batch on."""

from collections import Counter

import numpy as np
import pytest
from record_sources import OPTIONS, TOKENIZER, build, rows_of, text

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.record_manifest import Manifest
from bert4keras3.training.records import Records

SETTINGS = dict(lengths=[6, 12], tokens_per_batch=48, window=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("corpus")
    (place / "text.txt").write_text(text(400), encoding="utf-8")
    build(place / "text.txt", place / "records", across_documents=True)
    return place / "records"


def read(records, number, first=0):
    return list(records.batches(first).take(number).as_numpy_iterator())


def as_row(batch, index):
    """A row of a batch as the record has it."""
    real = batch["word_ids"][index] >= 0
    lengths = (
        tuple(Counter(batch[name][index][real].tolist()).values())
        for name in ("word_ids", "sentence_ids", "document_ids")
    )
    return tuple(batch["token_ids"][index][real].tolist()), *lengths


def test_an_epoch_has_every_row_at_most_once_and_the_plan_is_kept(folder):
    records = Records(folder, TOKENIZER, **SETTINGS)
    plan = records.plan(0)
    batches = read(records, plan.batches)
    shapes = Counter(batch["token_ids"].shape for batch in batches)
    assert shapes.keys() == {(8, 6), (4, 12)}
    given = Counter(
        as_row(batch, index)
        for batch in batches
        for index in range(len(batch["token_ids"]))
    )
    stored = Counter(rows_of(folder))
    assert given <= stored
    assert given.total() == plan.rows == stored.total() - plan.left_out
    places = sum(batch["token_ids"].size for batch in batches)
    padding = sum((batch["token_ids"] == 0).sum() for batch in batches)
    assert abs(padding / places - plan.padding) < 0.02
    # Without buckets only what does not fill the last batch of a window is left out.
    one = Records(folder, TOKENIZER, tokens_per_batch=12, window=100)
    assert one.plan(0).left_out == 0
    assert one.plan(0).padding > plan.padding


def test_special_tokens_frame_each_row(folder):
    for batch in read(Records(folder, TOKENIZER, **SETTINGS), 20):
        ids, words = batch["token_ids"], batch["word_ids"]
        assert ids.dtype == words.dtype == "int32"
        assert (ids[:, 0] == TOKENIZER.cls_token_id).all()
        ends = (ids != 0).sum(1) - 1
        rows = np.arange(len(ids))
        assert (ids[rows, ends] == TOKENIZER.sep_token_id).all()
        text_places = (np.arange(ids.shape[1]) > 0) & (
            np.arange(ids.shape[1]) < ends[:, None]
        )
        np.testing.assert_array_equal(words >= 0, text_places)
        for name in ("sentence_ids", "document_ids"):
            np.testing.assert_array_equal(batch[name] >= 0, text_places)
            steps = np.diff(np.where(text_places, batch[name], 0), axis=1)
            assert steps[text_places[:, 1:] & text_places[:, :-1]].min() >= 0


def test_reading_begins_at_any_batch(folder):
    records = Records(folder, TOKENIZER, **SETTINGS)
    number = records.plan(0).batches + 5
    batches = read(records, number)
    for first in (0, 1, 30, number - 6, number - 5, number - 1):
        (batch,) = read(Records(folder, TOKENIZER, **SETTINGS), 1, first)
        for name, array in batch.items():
            np.testing.assert_array_equal(array, batches[first][name])


def test_the_global_seed_of_tensorflow_changes_nothing(folder):
    import tensorflow as tf

    records = Records(folder, TOKENIZER, **SETTINGS)
    before = read(records, 3)
    try:
        tf.random.set_seed(5)
        after = read(records, 3)
    finally:
        tf.random.set_seed(None)
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(ours["token_ids"], theirs["token_ids"])


def test_epochs_and_seeds_differ(folder):
    records = Records(folder, TOKENIZER, **SETTINGS)
    batches = records.plan(0).batches
    first, second = read(records, 1)[0], read(records, 1, batches)[0]
    other = read(Records(folder, TOKENIZER, **SETTINGS, seed=1), 1)[0]
    for batch in (second, other):
        assert (
            batch["token_ids"].shape != first["token_ids"].shape
            or (batch["token_ids"] != first["token_ids"]).any()
        )


# --- bad input ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lengths=[6, 10]), "last of `lengths` must be 12. Received .6, 10."),
        (dict(tokens_per_batch=11), "must hold a row of 12"),
        (dict(window=0), "at least one shard"),
        (dict(tokens_per_batch=10**6), r"do not fill one batch.*12: 83333"),
    ],
)
def test_what_makes_no_batch_is_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        Records(folder, TOKENIZER, **options)


def test_a_batch_before_the_first_is_refused(folder):
    with pytest.raises(ValueError, match="count from 0. Received -1"):
        Records(folder, TOKENIZER, **SETTINGS).batches(-1)


def test_another_vocabulary_or_altered_shard_is_refused(folder, tmp_path):
    import shutil

    tokens = TOKENIZER.vocabulary
    with pytest.raises(ValueError, match="made with a vocabulary of 28 tokens"):
        Records(folder, Tokenizer([*tokens[:5], *tokens[:4:-1]]))
    copy = shutil.copytree(folder, tmp_path / "copy")
    shard = copy / Manifest.read(copy).shards[1].name
    content = bytearray(shard.read_bytes())
    content[-20] ^= 255
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=f"SHA-256 of {shard.name} is another"):
        Records(copy, TOKENIZER)
    assert Records(copy, TOKENIZER, tokens_per_batch=48, checksums=False).lengths
    assert OPTIONS["segmenter"] == Manifest.read(copy).settings.segmenter
