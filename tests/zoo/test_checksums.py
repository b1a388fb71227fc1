"""Recording the checksums of a folder, and noticing every change to it."""

import json
import os

import pytest

from zoo.checksums import ChecksumError, check_checksums, record_checksums, sha256


@pytest.fixture
def folder(tmp_path, released):
    for name, data in released.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_sha256_of_the_standard_example(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected


def test_round_trip(folder, released):
    assert check_checksums(folder) is False
    record = record_checksums(folder, source="somewhere", archive_sha256="0" * 64)
    assert check_checksums(folder) is True
    noted = json.loads(record.read_text())
    assert set(noted["files"]) == set(released)
    assert (noted["source"], noted["archive_sha256"]) == ("somewhere", "0" * 64)
    assert set(os.listdir(folder)) == {*released, "checksums.json"}
    assert record_checksums(folder) == record  # itself is not among the files
    assert check_checksums(folder) is True


def test_files_in_folders_and_hidden_ones(folder):
    (folder / "assets").mkdir()
    (folder / "assets" / "a.txt").write_text("a")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "b.txt").write_text("b")
    names = json.loads(record_checksums(folder).read_text())["files"]
    assert "assets/a.txt" in names and ".cache/b.txt" not in names
    (folder / "assets" / "a.txt").write_text("A")
    with pytest.raises(ChecksumError, match="a.txt has changed"):
        check_checksums(folder)


def test_every_single_change_is_noticed(folder, released):
    record_checksums(folder)
    assert released
    for name, data in released.items():
        path = folder / name
        for spoiled in (data[:-1], data + b"x", bytes([data[0] ^ 1]) + data[1:]):
            path.write_bytes(spoiled)
            with pytest.raises(ChecksumError, match="has changed on disk") as caught:
                check_checksums(folder)
            assert str(path) in str(caught.value)
            assert "remove" in str(caught.value)
        path.unlink()
        with pytest.raises(ChecksumError, match="is missing"):
            check_checksums(folder)
        path.write_bytes(data)
    assert check_checksums(folder)


def test_a_file_more_does_not_matter(folder):
    record_checksums(folder)
    (folder / "notes.txt").write_text("mine")
    assert check_checksums(folder)


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"vocab.txt": {}}}',
        '{"files": {"vocab.txt": {"bytes": 1, "sha256": 3}}}',
        '{"files": {"../vocab.txt": {"bytes": 1, "sha256": "%s"}}}' % ("0" * 64),
        '{"files": {"/etc/passwd": {"bytes": 1, "sha256": "%s"}}}' % ("0" * 64),
    ],
)
def test_a_broken_record(folder, record):
    (folder / "checksums.json").write_text(record)
    with pytest.raises(ChecksumError, match="cannot be read as a record"):
        check_checksums(folder)


def test_nothing_to_record(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        record_checksums(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no files"):
        record_checksums(tmp_path)


def test_a_record_is_never_half_written(folder, monkeypatch):
    record_checksums(folder, source="first")
    monkeypatch.setattr("zoo.checksums.json.dump", lambda record, file, indent: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        record_checksums(folder, source="second")
    assert check_checksums(folder)
    assert '"first"' in (folder / "checksums.json").read_text()
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
