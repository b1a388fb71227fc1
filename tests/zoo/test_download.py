"""From a name to a folder of files: the web, the mirrors, the cache, by hand."""

import json
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from web_server import cut, serve_hub, slowly, status, zip_bytes

import zoo.archive
import zoo.download
import zoo.mirror
import zoo.transfer
from zoo.archive import ArchiveError, DiskFullError
from zoo.catalogue import UnknownModelError
from zoo.checksums import ChecksumError, record_checksums, sha256
from zoo.download import (
    WeightsNotFoundError,
    cache_folder,
    fetch,
    manual_instructions,
)
from zoo.preset import Mirror
from zoo.presets import PRESETS
from zoo.transfer import Patience

ROOT = Path(__file__).parents[2]
HASTY = Patience(timeout=2, tries=3, pause=0.01)
ARCHIVE = "chinese_GAU-alpha-char_L-24_H-768"
HUB_NAME = "someone/gau"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, server):
    """An empty cache, and no way to the real hub."""
    monkeypatch.setenv("BERT4KERAS3_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BERT4KERAS3_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return tmp_path / "cache"


@pytest.fixture
def row(server):
    """The row of gau-alpha, with addresses on this machine."""
    return replace(
        PRESETS["gau-alpha"],
        urls=(f"{server.url}/one.zip", f"{server.url}/two.zip"),
        mirrors=(Mirror(HUB_NAME),),
    )


@pytest.fixture
def mirrored():
    """The files of a mirror, as its checkpoint's fixture has them."""
    folder = ROOT / "tests" / "golden" / "models" / "gau_alpha"
    return {
        "config.json": (folder / "bert_config.json").read_bytes(),
        "vocab.txt": (folder / "vocab.txt").read_bytes(),
        "pytorch_model.bin": (folder / "mirror" / "pytorch_model.bin").read_bytes(),
    }


def get(row, **options):
    return fetch(row, progress=False, patience=HASTY, **options)


def files(folder):
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {n: (folder / n).read_bytes() for n in names if n != "checksums.json"}


def placed(cache):
    """What a user sees in the cache."""
    return sorted(set(os.listdir(cache)) - {"downloads"}) if cache.exists() else []


# --- the official address -----------------------------------------------------------


@pytest.mark.parametrize("folder", ["", ARCHIVE])
def test_official_address(row, server, cache, released, folder):
    server.serve("/one.zip", zip_bytes(released, folder))
    path = get(row)
    assert path == cache / ARCHIVE
    assert files(path) == released
    assert placed(cache) == [ARCHIVE]
    assert not list((cache / "downloads").glob("*.zip*"))
    record = json.loads((path / "checksums.json").read_text())
    assert record["source"] == row.urls[0]
    assert len(record["archive_sha256"]) == 64


def test_the_second_call_stays_at_home(row, server, released):
    server.serve("/one.zip", zip_bytes(released))
    first = get(row)
    server.requests.clear()
    assert get(row) == first
    assert server.requests == []


def test_a_cut_is_resumed_by_the_next_call(row, server, cache, released):
    row = replace(row, urls=row.urls[:1], mirrors=())
    body = zip_bytes(released)
    server.serve("/one.zip", body, [cut(50_000)] + [status(503)] * 3)
    with pytest.raises(WeightsNotFoundError):
        get(row)
    assert placed(cache) == []
    assert files(get(row)) == released
    assert server.gets("/one.zip")[-1].headers["Range"] == "bytes=50000-"


def test_second_address(row, server, released):
    server.serve("/two.zip", zip_bytes(released))
    assert files(get(row)) == released
    assert len(server.gets("/one.zip")) == 1


def test_an_error_page_sends_to_the_next_address(row, server, released):
    server.serve("/one.zip", b"<html>moved</html>", kind="text/html")
    server.serve("/two.zip", zip_bytes(released))
    assert files(get(row)) == released


def test_a_zip_of_something_else(row, server, cache, released):
    server.serve("/one.zip", zip_bytes({"readme.txt": b"hello"}))
    server.serve("/two.zip", zip_bytes({"../vocab.txt": b"evil"}))
    with pytest.raises(WeightsNotFoundError) as caught:
        get(replace(row, mirrors=()))
    assert "is not the archive of 'gau-alpha'" in str(caught.value)
    assert "climbs out of the folder" in str(caught.value)
    assert placed(cache) == []
    assert [p.suffix for p in (cache / "downloads").iterdir()] in ([], [".lock"])


def test_a_damaged_zip(row, server, cache, released):
    body = bytearray(zip_bytes(released))
    body[len(body) // 2] ^= 1
    server.serve("/one.zip", bytes(body))
    server.serve("/two.zip", zip_bytes(released))
    assert files(get(row)) == released


def test_a_known_checksum(row, server, cache, released, tmp_path):
    right, wrong = zip_bytes(released), zip_bytes(released, "other")
    (tmp_path / "right.zip").write_bytes(right)
    row = replace(row, sha256=sha256(tmp_path / "right.zip"), mirrors=())
    server.serve("/one.zip", wrong)
    with pytest.raises(WeightsNotFoundError, match="not the published file"):
        get(row)
    assert placed(cache) == []
    server.serve("/two.zip", right)
    assert files(get(row)) == released


def test_a_zip_that_was_left_whole(row, server, cache, released):
    (cache / "downloads").mkdir(parents=True)
    left = cache / "downloads" / f"{ARCHIVE}.zip"
    left.write_bytes(zip_bytes(released))
    assert files(get(row)) == released
    assert not left.exists() and server.requests == []


def test_a_zip_that_was_left_damaged(row, server, cache, released):
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / f"{ARCHIVE}.zip").write_bytes(b"PK\3\4 and no more")
    server.serve("/one.zip", zip_bytes(released))
    assert files(get(row)) == released


# --- mirrors ------------------------------------------------------------------------


def test_mirror(row, server, cache, mirrored):
    commit = serve_hub(server, HUB_NAME, mirrored)
    path = get(row)
    assert path == cache / "someone--gau"
    assert files(path) == mirrored
    assert placed(cache) == ["someone--gau"]
    record = json.loads((path / "checksums.json").read_text())
    assert record["source"] == f"hub: {HUB_NAME}@{commit}"
    server.requests.clear()
    assert get(row) == path
    assert server.requests == []


def test_mirror_files_come_from_one_commit(row, server, mirrored):
    commit = serve_hub(server, HUB_NAME, mirrored)
    get(row)
    contents = [r.path for r in server.requests if r.method == "GET"]
    assert contents
    for name in mirrored:
        assert f"/{HUB_NAME}/resolve/{commit}/{name}" in contents


def test_mirror_that_lacks_a_file(row, server, cache, mirrored):
    del mirrored["pytorch_model.bin"]
    serve_hub(server, HUB_NAME, mirrored)
    with pytest.raises(WeightsNotFoundError, match="someone/gau on the hub"):
        get(row)
    assert not [name for name in placed(cache) if not name.startswith(".")]


def test_mirror_with_damaged_weights(row, server, cache, mirrored):
    commit = serve_hub(server, HUB_NAME, mirrored)
    resource = server.resources[f"/{HUB_NAME}/resolve/{commit}/pytorch_model.bin"]
    resource.body = resource.body[:-1] + bytes([resource.body[-1] ^ 1])
    with pytest.raises(WeightsNotFoundError, match="arrived damaged"):
        get(row)
    serve_hub(server, HUB_NAME, mirrored)
    assert files(get(row)) == mirrored


def test_mirror_on_a_full_disk(row, server, cache, mirrored, monkeypatch):
    serve_hub(server, HUB_NAME, mirrored)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(DiskFullError, match="someone/gau does not fit"):
        get(row)
    assert placed(cache) == []


def test_mirror_without_the_hub_client(row, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsNotFoundError, match="pip install huggingface_hub"):
        get(row)


# --- by hand ------------------------------------------------------------------------


def test_when_nothing_works(row, cache):
    with pytest.raises(WeightsNotFoundError) as caught:
        get(row)
    text = str(caught.value)
    for url in row.urls:
        assert f"{url} answered 404" in text
    assert "someone/gau on the hub" in text
    assert manual_instructions(row) in text


@pytest.mark.parametrize("name", [n for n, r in PRESETS.items() if not r.bundled])
def test_instructions(name, cache):
    row = PRESETS[name]
    text = manual_instructions(name)
    assert text == manual_instructions(row)
    for part in (*row.urls, *row.manual, row.homepage):
        assert part in text
    assert str(cache / f"{row.archive}.zip") in text
    assert f'zoo.load("{name}")' in text
    for mirror in row.mirrors:
        assert f"https://huggingface.co/{mirror.repo_id}" in text
    assert "nothing to fetch" in manual_instructions("gau-alpha-tiny")


@pytest.mark.parametrize("offline", ["", "1"])
@pytest.mark.parametrize("name", [ARCHIVE, "gau-alpha"])
def test_a_zip_placed_by_hand(row, server, cache, released, name, offline, monkeypatch):
    monkeypatch.setenv("BERT4KERAS3_OFFLINE", offline)
    cache.mkdir()
    (cache / f"{name}.zip").write_bytes(zip_bytes(released, "gau"))
    assert files(get(row)) == released
    assert placed(cache) == sorted([ARCHIVE, f"{name}.zip"])
    assert server.requests == []


@pytest.mark.parametrize("offline", ["", "1"])
@pytest.mark.parametrize(
    "name", [ARCHIVE, "gau-alpha", f"{ARCHIVE}/{ARCHIVE}", "gau-alpha/unpacked"]
)
def test_a_folder_placed_by_hand(
    row, server, cache, released, name, offline, monkeypatch
):
    monkeypatch.setenv("BERT4KERAS3_OFFLINE", offline)
    (cache / name).mkdir(parents=True)
    for file, data in released.items():
        (cache / name / file).write_bytes(data)
    assert get(row) == cache / name
    assert files(cache / name) == released
    assert server.requests == []
    (cache / name / "vocab.txt").write_text("spoiled")
    with pytest.raises(ChecksumError, match="vocab.txt has changed"):
        get(row)


def test_mirror_files_placed_by_hand(row, server, cache, mirrored):
    (cache / "someone--gau").mkdir(parents=True)
    for file, data in mirrored.items():
        (cache / "someone--gau" / file).write_bytes(data)
    assert get(row) == cache / "someone--gau"
    assert server.requests == []


def test_a_damaged_zip_placed_by_hand(row, server, cache, released):
    cache.mkdir()
    path = cache / f"{ARCHIVE}.zip"
    path.write_bytes(zip_bytes(released)[:-100])
    with pytest.raises(ArchiveError, match="not a whole zip"):
        get(row)
    assert path.exists() and placed(cache) == [path.name]
    with pytest.raises(ChecksumError, match="is not the published file"):
        get(replace(row, sha256="0" * 64))
    assert server.requests == []


def test_a_folder_without_weights(row, server, cache, released):
    (cache / ARCHIVE).mkdir(parents=True)
    (cache / ARCHIVE / "vocab.txt").write_text("x")
    with pytest.raises(WeightsNotFoundError, match="holds no checkpoint.*or remove it"):
        get(row)
    (cache / ARCHIVE / "vocab.txt").unlink()  # an empty folder is no obstacle
    server.serve("/one.zip", zip_bytes(released))
    assert files(get(row)) == released


def test_a_cache_that_cannot_be_written_to(row, server, cache, released, monkeypatch):
    (cache / ARCHIVE).mkdir(parents=True)
    for file, data in released.items():
        (cache / ARCHIVE / file).write_bytes(data)

    def refuse(folder, source):
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr(zoo.download, "record_checksums", refuse)
    assert get(row) == cache / ARCHIVE


# --- checks, settings, disks --------------------------------------------------------


def test_a_changed_file_is_noticed_at_every_later_load(row, server, cache, released):
    server.serve("/one.zip", zip_bytes(released))
    path = get(row) / "bert_model.ckpt.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(ChecksumError) as caught:
            get(row)
        assert str(path) in str(caught.value)
        assert f"remove the folder {cache / ARCHIVE}" in str(caught.value)


def test_offline(row, server, cache, released, monkeypatch):
    server.serve("/one.zip", zip_bytes(released))
    for value in ("1", "true", "yes"):
        monkeypatch.setenv("BERT4KERAS3_OFFLINE", value)
        with pytest.raises(WeightsNotFoundError, match="OFFLINE forbids") as caught:
            get(row)
        assert manual_instructions(row) in str(caught.value)
    assert server.requests == [] and not cache.exists()
    monkeypatch.setenv("BERT4KERAS3_OFFLINE", "0")
    assert files(get(row)) == released


def test_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("BERT4KERAS3_CACHE", "~/models")
    assert cache_folder() == Path.home() / "models"
    monkeypatch.setenv("BERT4KERAS3_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "bert4keras3"


def test_another_cache(row, server, cache, released, tmp_path):
    server.serve("/one.zip", zip_bytes(released))
    assert get(row, cache=tmp_path / "other") == tmp_path / "other" / ARCHIVE
    assert not cache.exists()
    assert str(tmp_path / "other") in manual_instructions(row, tmp_path / "other")


def test_a_cache_that_is_a_file(row, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="cannot be made.*BERT4KERAS3_CACHE"):
        get(row, cache=tmp_path / "file")


def test_unknown_name():
    with pytest.raises(UnknownModelError, match="'gau-alpha'"):
        fetch("gau-alfa")


def test_no_room_for_the_zip(row, server, cache, released, monkeypatch):
    serve_hub(server, HUB_NAME, {})
    server.serve("/one.zip", zip_bytes(released))
    usage = zoo.transfer.shutil.disk_usage(".")._replace(free=5000)
    with monkeypatch.context() as patch:
        patch.setattr(zoo.transfer.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(DiskFullError, match="The disk is full"):
            get(row)
    assert placed(cache) == []
    assert {request.path for request in server.requests} == {"/one.zip"}
    assert files(get(row)) == released


def test_no_room_for_the_files(row, server, cache, released, monkeypatch):
    server.serve("/one.zip", zip_bytes(released))

    def full(*args, **kwargs):
        raise DiskFullError("The disk is full: no room.")

    with monkeypatch.context() as patch:
        patch.setattr(zoo.archive, "_check_space", full)
        with pytest.raises(DiskFullError):
            get(row)
    assert placed(cache) == []
    server.requests.clear()
    assert files(get(row)) == released
    assert server.requests == []  # the zip had been kept


def test_permissions_are_those_of_any_new_file(row, server, released, tmp_path):
    server.serve("/one.zip", zip_bytes(released))
    folder = get(row)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "file").write_text("x")
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert stat.S_IMODE((folder / "vocab.txt").stat().st_mode) == stat.S_IMODE(
        (plain / "file").stat().st_mode
    )


# --- bundled ------------------------------------------------------------------------


def test_bundled(tmp_path, released, monkeypatch, server):
    row = PRESETS["gau-alpha-tiny"]
    monkeypatch.setattr(zoo.download, "__file__", str(tmp_path / "download.py"))
    with pytest.raises(WeightsNotFoundError, match="installation is not complete"):
        get(row)
    folder = tmp_path / row.bundled
    folder.mkdir(parents=True)
    for file, data in released.items():
        (folder / file).write_bytes(data)
    record_checksums(folder)
    assert get(row) == folder
    (folder / "vocab.txt").write_text("spoiled")
    with pytest.raises(ChecksumError):
        get(row)
    assert server.requests == []


# --- two at a time ------------------------------------------------------------------

CALLER = """
import sys, types
package = types.ModuleType("zoo")  # not zoo/__init__.py: no Keras is needed here
package.__path__ = ["zoo"]
sys.modules["zoo"] = package
from dataclasses import replace
from zoo.download import fetch
from zoo.presets import PRESETS
row = replace(PRESETS["gau-alpha"], urls=(sys.argv[1],), mirrors=())
print("ready", flush=True)
sys.stdin.readline()
print(fetch(row, progress=False), flush=True)
"""


def start_caller(url):
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout.readline() == "ready\n"
    return caller


def go(caller):
    caller.stdin.write("go\n")
    caller.stdin.flush()


def test_two_processes_download_once(server, cache, released):
    url = server.serve("/one.zip", zip_bytes(released), [slowly(0.02)])
    callers = [start_caller(url), start_caller(url)]
    try:
        for caller in callers:
            go(caller)
        answers = [caller.communicate(timeout=60)[0].strip() for caller in callers]
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()
    assert answers == [str(cache / ARCHIVE)] * 2
    assert len(server.gets("/one.zip")) == 1
    assert files(cache / ARCHIVE) == released


def test_two_threads_download_once(row, server, released):
    server.serve("/one.zip", zip_bytes(released), [slowly(0.01)])
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(get, [row, row])
    assert one == other
    assert len(server.gets("/one.zip")) == 1
    assert files(one) == released


def test_a_killed_caller_leaves_a_part_and_no_lock(row, server, cache, released):
    body = zip_bytes(released)
    url = server.serve("/one.zip", body, [slowly(0.1)])
    part = cache / "downloads" / f"{ARCHIVE}.zip.partial"
    with start_caller(url) as caller:
        go(caller)
        deadline = time.monotonic() + 30
        while not part.exists() or part.stat().st_size < 32_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        caller.kill()
    assert placed(cache) == []
    assert files(get(replace(row, urls=(url,)))) == released
    resumed = server.gets("/one.zip")[-1].headers["Range"]
    assert 32_000 <= int(resumed.removeprefix("bytes=").removesuffix("-")) < len(body)
