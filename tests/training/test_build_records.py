"""Records of a corpus: the same whoever builds them, whole words, honest manifests."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
from killing import kill_when
from record_sources import SPECIAL, TOKENIZER, build, rows_of, small_corpus

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.record_manifest import Manifest
from bert4keras3.training.record_rows import RowEncoder
from bert4keras3.training.word_segmenters import word_segmenter


@pytest.fixture
def sources(tmp_path):
    return small_corpus(tmp_path / "text")


# --- the same from everyone -----------------------------------------------------


def test_two_processes_write_the_files_of_one(sources, tmp_path):
    one = build(sources, tmp_path / "one")
    two = build(sources, tmp_path / "two", processes=2)
    assert one == two and len(one.shards) > 5
    assert {f.name for f in (tmp_path / "two").iterdir()} == {
        "manifest.json",
        *(shard.name for shard in two.shards),
    }
    assert Manifest.read(tmp_path / "two") == one
    two.check_files(tmp_path / "two", checksums=True)


def test_small_files_share_a_shard_and_large_ones_have_several(sources, tmp_path):
    manifest = build(sources, tmp_path / "records", block_characters=600)
    groups = [shard.name.split("-")[1] for shard in manifest.shards]
    assert len(set(groups)) < 10 and len(groups) > len(set(groups))
    assert sum(shard.documents for shard in manifest.shards) > 30


def test_the_seed_moves_rows_within_their_shards_alone(sources, tmp_path):
    one, two = (build(sources, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    first, second = rows_of(tmp_path / "0"), rows_of(tmp_path / "1")
    assert first != second and sorted(first) == sorted(second)
    assert [s.rows for s in one.shards] == [s.rows for s in two.shards]


def test_an_interrupted_build_goes_on(sources, tmp_path, monkeypatch):
    expected = build(sources, tmp_path / "whole")
    from bert4keras3.training import record_shards

    replace, done = os.replace, []

    def fail(partial, path):
        if str(path).endswith(".gz"):
            done.append(path)
            if len(done) == 4:
                raise OSError(28, "No space left on device")
        replace(partial, path)

    monkeypatch.setattr(record_shards.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        build(sources, tmp_path / "records")
    assert not (tmp_path / "records" / "manifest.json").exists()
    assert not list((tmp_path / "records").glob(".partial*"))
    with pytest.raises(FileNotFoundError, match="the same call goes on"):
        Manifest.read(tmp_path / "records")
    monkeypatch.setattr(record_shards.os, "replace", replace)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").glob("*.gz")}
    assert len(kept) == 3
    assert build(sources, tmp_path / "records") == expected
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


KILLED = """
import sys
from record_sources import build
build(sys.argv[1], sys.argv[2], block_characters=60)
"""


def test_a_killed_build_goes_on(sources, tmp_path):
    folder = tmp_path / "records"
    command = ("-c", KILLED, sources, folder)
    code = kill_when(lambda: len(list(folder.glob("*.gz"))) >= 2, *command)
    assert code == -signal.SIGKILL
    assert not (folder / "manifest.json").exists()
    options = dict(block_characters=60)
    whole = build(sources, tmp_path / "whole", **options)
    assert build(sources, folder, **options) == whole


# --- what is in a row -----------------------------------------------------------


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("fill", [False, True])
def test_rows_hold_the_whole_text_in_whole_words(sources, tmp_path, across, fill):
    path = sources / "a.txt"
    manifest = build(path, tmp_path / "r", across_documents=across, fill=fill)
    rows = rows_of(tmp_path / "r")
    words = []
    for token_ids, *lengths in rows:
        assert 0 < len(token_ids) <= 10
        assert {sum(each) for each in lengths} == {len(token_ids)}
        assert all(length > 0 for each in lengths for length in each)
        at = np.cumsum([0, *lengths[0]])
        tokens = [TOKENIZER.vocabulary[i] for i in token_ids]
        words += ["".join(tokens[i:j]) for i, j in zip(at, at[1:], strict=False)]
        if not across:
            assert len(lengths[2]) == 1
    assert sorted(words) == sorted(path.read_text(encoding="utf-8").split())
    assert manifest.counts["words"] == len(words)
    assert manifest.counts["tokens"] == sum(len(row[0]) for row in rows)
    used = sum(len(row[0]) + 2 for row in rows)
    assert abs(manifest.padding - (1 - used / (12 * len(rows)))) < 1e-9


def test_filling_and_joining_leave_less_padding(sources, tmp_path):
    shares = [
        build(
            sources,
            tmp_path / f"{across}{fill}",
            16,
            across_documents=across,
            fill=fill,
        )
        for across, fill in ((False, False), (False, True), (True, True))
    ]
    shares = [manifest.padding for manifest in shares]
    assert shares == sorted(shares, reverse=True) and shares[2] < 0.1


def test_a_sentence_is_cut_only_where_it_does_not_fit():
    encode = RowEncoder(TOKENIZER, str.split, length=10)
    rows = encode(["今天 天气 好 。 我们 去 。\n去"])
    assert [row.sentence_lengths.tolist() for row in rows] == [[6], [4, 1]]
    long = encode(["今天 天气 好 我们 去 公园 。"])
    assert [row.word_lengths.tolist() for row in long] == [[2, 2, 1, 2, 1], [2, 1]]


# --- bad input ------------------------------------------------------------------


def test_other_settings_and_changed_text_are_refused(sources, tmp_path):
    folder = tmp_path / "records"
    manifest = build(sources, folder)
    assert build(sources, folder) == manifest  # nothing left to do
    with pytest.raises(ValueError, match=r"length=12 \(now 14\)"):
        build(sources, folder, length=14)
    (folder / "manifest.json").unlink()
    progress = folder / ".progress"
    progress.mkdir()
    (progress / "settings.json").write_text(json.dumps(manifest.settings.to_json()))
    shard = manifest.shards[0]
    (progress / f"{shard.name}.json").write_text(json.dumps(dataclasses.asdict(shard)))
    with pytest.raises(ValueError, match=r"seed=0 \(now 5\)"):
        build(sources, folder, seed=5)
    path = sources / "a.txt"
    path.write_text("好" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match="rows-00000-00000.* has changed since"):
        build(sources, folder)


def test_an_empty_corpus_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text(" \n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="every document is blank"):
        build(tmp_path / "a.txt", tmp_path / "records")
    assert not (tmp_path / "records" / "manifest.json").exists()
    with pytest.raises(FileNotFoundError, match="There is no text file"):
        build(tmp_path / "b.txt", tmp_path / "records")
    with pytest.raises(ValueError, match="among the sources twice"):
        build([tmp_path, tmp_path / "a.txt"], tmp_path / "records")


def test_a_missing_or_altered_shard_is_named(sources, tmp_path):
    folder = tmp_path / "records"
    manifest = build(sources, folder)
    first, second, third = (folder / shard.name for shard in manifest.shards[:3])
    first.unlink()
    second.write_bytes(second.read_bytes() + b"x")
    content = bytearray(third.read_bytes())
    content[len(content) // 2] ^= 1
    third.write_bytes(content)
    with pytest.raises(ValueError) as error:
        manifest.check_files(folder, checksums=True)
    assert f"{first.name} is missing" in str(error.value)
    assert f"{second.name} has" in str(error.value)
    assert f"SHA-256 of {third.name}" in str(error.value)


def test_another_vocabulary_is_refused(sources, tmp_path):
    manifest = build(sources, tmp_path / "records")
    manifest.check_vocabulary(TOKENIZER)
    other = Tokenizer([*SPECIAL, *"好天"])
    with pytest.raises(
        ValueError, match="vocabulary of 28 tokens.*this tokenizer has 7"
    ):
        manifest.check_vocabulary(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [("{", "is no manifest"), ('{"format": "rows 9"}', "its format is 'rows 9'")],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, change, message):
    (tmp_path / "manifest.json").write_text(change)
    with pytest.raises(ValueError, match=message):
        Manifest.read(tmp_path)


def test_lengths_and_blocks_without_room_are_refused(sources, tmp_path):
    with pytest.raises(ValueError, match="no room beside"):
        build(sources, tmp_path / "records", length=2)
    with pytest.raises(ValueError, match="makes no shard"):
        build(sources, tmp_path / "records", block_characters=0)


def test_segmenters_are_found_by_name():
    assert list(word_segmenter("characters")("今天")) == ["今", "天"]
    assert list(word_segmenter("jieba")("今天天气")) == ["今天天气"]
    assert word_segmenter("textwrap:wrap")("a") == ["a"]
    with pytest.raises(ValueError, match="'jieba', 'spaces', 'characters'"):
        word_segmenter("lac")
    with pytest.raises(ImportError, match="has no 'cut'"):
        word_segmenter("textwrap:cut")
