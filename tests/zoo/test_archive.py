"""What comes out of a zip, and what must not."""

import errno
import os
import stat
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_server import zip_bytes

import zoo.archive
from zoo.archive import ArchiveError, DiskFullError, Limits, extract_zip

CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


def write(path, entries):
    """Writes a zip from (name or ZipInfo, content) pairs, collisions included."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # about names written twice
        for name, content in entries:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo()
            if info is not name:
                info.filename = name  # ZipInfo(name) would mend the name first
            archive.writestr(info, content)
    return path


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(path, match, **limits):
    """Asserts that a zip is refused and that nothing of it is left anywhere."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(ArchiveError, match=match) as caught:
        extract_zip(path, path.parent / "out", limits=Limits(**limits))
    assert sorted(path.parent.rglob("*")) == before
    return str(caught.value)


@pytest.mark.parametrize("folder", ["", "chinese_GAU", "outer/inner"])
def test_nesting_does_not_matter(tmp_path, released, folder):
    path = tmp_path / "model.zip"
    path.write_bytes(zip_bytes(released, folder))
    assert extract_zip(path, tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert contents(tmp_path / "new" / "out") == released
    assert os.listdir(tmp_path / "new") == ["out"]


def test_a_folder_inside_stays_where_files_lie_beside_it(tmp_path):
    path = write(tmp_path / "m.zip", [("a.txt", "1"), ("b/c.txt", "2")])
    extract_zip(path, tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.txt": b"1", "b/c.txt": b"2"}


def test_clutter_is_left_out(tmp_path, released):
    clutter = ["__MACOSX/model/._vocab.txt", "model/.DS_Store", "model/Thumbs.db"]
    entries = [(f"model/{name}", data) for name, data in released.items()]
    path = write(tmp_path / "m.zip", entries + [(name, "x") for name in clutter])
    extract_zip(path, tmp_path / "out")
    assert contents(tmp_path / "out") == released


def test_progress_counts_every_byte(tmp_path, released):
    path = tmp_path / "m.zip"
    path.write_bytes(zip_bytes(released))
    seen = []
    extract_zip(path, tmp_path / "out", on_bytes=seen.append)
    assert sum(seen) == sum(len(data) for data in released.values())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("../evil.txt", "climbs"),
        ("model/../../evil.txt", "climbs"),
        ("..", "climbs"),
        ("C:/evil.txt", "drive letter"),
        ("c:evil.txt", "drive letter"),
        ("model\\evil.txt", "backslash"),
        ("..\\evil.txt", "backslash"),
        ("model//evil.txt", "empty part"),
        ("./evil.txt", "empty part"),
        ("a\nb.txt", "control character"),
        ("evil. ", "ends in a dot or a space"),
    ],
)
def test_names_that_leave_the_folder(tmp_path, name, reason):
    path = write(tmp_path / "m.zip", [("vocab.txt", "x"), (name, "evil")])
    assert repr(name) in refused(path, reason)


def test_a_name_cut_at_a_nul(tmp_path):
    path = write(tmp_path / "m.zip", [("vocab.txt\0.exe", "x")])
    refused(path, "control character")


@given(st.text(alphabet="ab./\\:\0 é", min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_no_name_writes_outside(name):
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "deep" / "er"
        base.mkdir(parents=True)
        path = write(base / "m.zip", [("vocab.txt", "x"), (name, "y")])
        try:
            extract_zip(path, base / "out")
        except ArchiveError:
            assert not (base / "out").exists()
        else:
            assert b"x" in contents(base / "out").values()
        assert {p.name for p in base.iterdir()} <= {"m.zip", "out"}
        assert [p.name for p in base.parent.iterdir()] == ["er"]


@pytest.mark.parametrize(
    ("kind", "reason"), [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "special")]
)
def test_links_and_special_files(tmp_path, kind, reason):
    info = zipfile.ZipInfo("model/vocab.txt")
    info.external_attr = (kind | 0o777) << 16
    refused(write(tmp_path / "m.zip", [(info, "/etc/passwd")]), reason)


@pytest.mark.parametrize(
    "names",
    [
        ("vocab.txt", "vocab.txt"),
        ("vocab.txt", "Vocab.TXT"),
        ("a/vocab.txt", "A/config.json"),
        ("vocab", "vocab/vocab.txt"),
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_names_that_collide(tmp_path, names):
    entries = [("bert_config.json", "{}")] + [(name, name) for name in names]
    refused(write(tmp_path / "m.zip", entries), "would be the same")


def test_encrypted(tmp_path):
    path = write(tmp_path / "m.zip", [("vocab.txt", "x")])
    data = bytearray(path.read_bytes())
    data[data.find(CENTRAL) + 8] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")


def test_other_compressions(tmp_path):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("vocab.txt", "x" * 100)
    refused(path, "method 14")


def test_bombs(tmp_path):
    path = tmp_path / "m.zip"
    path.write_bytes(zip_bytes({"zeros": bytes(20 << 20), "vocab.txt": b"x"}))
    refused(path, "bomb.*'zeros'")
    refused(path, "more than the 1,000 allowed", total_bytes=1000)
    refused(path, "has 2 entries", entries=1)


def test_entries_that_share_their_bytes(tmp_path):
    # Each entry alone is modest; together they are far more than the archive holds.
    path = tmp_path / "m.zip"
    path.write_bytes(zip_bytes({f"f{i}": b"" for i in range(40)}))
    data = path.read_bytes()
    start = 0
    while (start := data.find(CENTRAL, start)) >= 0:
        sizes = struct.pack("<II", 1 << 16, 1 << 20)
        data = data[: start + 20] + sizes + data[start + 28 :]
        start += 4
    path.write_bytes(data)
    refused(path, "bomb: 'all of it'")


@pytest.mark.parametrize("declared", [10, 2000])
def test_a_wrong_declared_size(tmp_path, declared):
    path = write(tmp_path / "m.zip", [("vocab.txt", "x" * 1000)])
    data = bytearray(path.read_bytes())
    at = data.find(CENTRAL)
    data[at + 24 : at + 28] = struct.pack("<I", declared)
    path.write_bytes(data)
    refused(path, "not a whole zip|is damaged")


def test_a_flipped_bit(tmp_path, released):
    path = write(tmp_path / "m.zip", list(released.items()))
    data = bytearray(path.read_bytes())
    data[data.find(released["vocab.txt"][:50]) + 7] ^= 1
    path.write_bytes(data)
    refused(path, "Bad CRC-32.*fetch it again")


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_cut_off(tmp_path, released, kept):
    whole = zip_bytes(released)
    path = tmp_path / "m.zip"
    path.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else kept])
    refused(path, "not a whole zip")


def test_no_files_inside(tmp_path):
    path = write(tmp_path / "m.zip", [("model/", ""), ("__MACOSX/._x", "x")])
    refused(path, "holds no files")


def test_missing_zip_and_taken_target(tmp_path, released):
    with pytest.raises(FileNotFoundError, match="no file"):
        extract_zip(tmp_path / "m.zip", tmp_path / "out")
    path = write(tmp_path / "m.zip", [("vocab.txt", "x")])
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        extract_zip(path, tmp_path / "out")


def test_a_target_that_appears_meanwhile(tmp_path, released):
    path = tmp_path / "m.zip"
    path.write_bytes(zip_bytes(released))

    def somebody_is_faster(count):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "theirs").write_text("x")

    with pytest.raises(FileExistsError, match="appeared while"):
        extract_zip(path, tmp_path / "out", on_bytes=somebody_is_faster)
    assert contents(tmp_path / "out") == {"theirs": b"x"}
    assert sorted(os.listdir(tmp_path)) == ["m.zip", "out"]


def test_a_disk_that_is_too_small(tmp_path, released, monkeypatch):
    path = tmp_path / "m.zip"
    path.write_bytes(zip_bytes(released))
    usage = zoo.archive.shutil.disk_usage(tmp_path)
    tiny = usage._replace(free=1000)
    monkeypatch.setattr(zoo.archive.shutil, "disk_usage", lambda path: tiny)
    with pytest.raises(DiskFullError, match="1,000 left") as caught:
        extract_zip(path, tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["m.zip"]


def test_a_disk_that_fills_up(tmp_path, released, monkeypatch):
    path = tmp_path / "m.zip"
    path.write_bytes(zip_bytes(released))
    real_fsync, left = os.fsync, [2]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(handle)

    monkeypatch.setattr(zoo.archive.os, "fsync", fsync)
    with pytest.raises(DiskFullError, match="could not be unpacked"):
        extract_zip(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["m.zip"]
