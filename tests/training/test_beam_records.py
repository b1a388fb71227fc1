"""Beam's direct runner writes the same records; run by `make test-beam`."""

import json
import shutil

import pytest
from record_sources import TOKENIZER, build, small_corpus

pytestmark = pytest.mark.beam

OPTIONS = dict(segmenter="spaces", block_characters=400, document_length=50)


def build_with_beam(sources, folder, length=12, **options):
    from bert4keras3.training.beam_records import build_records_with_beam

    options = {**OPTIONS, **options}
    return build_records_with_beam(sources, folder, TOKENIZER, length, **options)


def test_beam_writes_the_files_of_one_process(tmp_path):
    sources = small_corpus(tmp_path / "text")
    one = build(sources, tmp_path / "one")
    other = build_with_beam(sources, tmp_path / "beam")
    assert one == other
    other.check_files(tmp_path / "beam", checksums=True)
    names = {file.name for file in (tmp_path / "one").iterdir()}
    assert {file.name for file in (tmp_path / "beam").iterdir()} == names
    # Nothing is left to do, and other settings are refused.
    assert build_with_beam(sources, tmp_path / "beam") == one
    with pytest.raises(ValueError, match=r"length=12 \(now 16\)"):
        build_with_beam(sources, tmp_path / "beam", length=16)


def test_beam_goes_on_with_what_another_began(tmp_path):
    sources = small_corpus(tmp_path / "text")
    one = build(sources, tmp_path / "one")
    begun = tmp_path / "begun"
    (begun / ".progress").mkdir(parents=True)
    settings = json.dumps(one.settings.to_json())
    (begun / ".progress" / "settings.json").write_text(settings)
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    kept = manifest["shards"][:3]
    for shard in kept:
        note = begun / ".progress" / f"{shard['name']}.json"
        note.write_text(json.dumps(shard))
        shutil.copy2(tmp_path / "one" / shard["name"], begun)
    times = {s["name"]: (begun / s["name"]).stat().st_mtime_ns for s in kept}
    assert build_with_beam(sources, begun) == one
    assert {name: (begun / name).stat().st_mtime_ns for name in times} == times


def test_text_that_cannot_be_read_ends_the_pipeline(tmp_path):
    sources = tmp_path / "text"
    sources.mkdir()
    (sources / "a.txt").write_bytes("今天".encode("gb18030"))
    with pytest.raises(Exception, match="line 1: byte 0 is not utf-8"):
        build_with_beam(sources, tmp_path / "records")
    assert not (tmp_path / "records" / "manifest.json").exists()
