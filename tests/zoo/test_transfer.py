"""One file from one address, whatever the server does."""

import errno
import io
import os
import random
import time

import pytest
from web_server import cut, hang, slowly, stall, status, zip_bytes

import zoo.transfer
from zoo.archive import DiskFullError
from zoo.transfer import Patience, TransferError, download_zip

HASTY = Patience(timeout=0.5, tries=3, total_tries=12, pause=0.01, longest_pause=0.05)


@pytest.fixture
def body():
    """A zip of 100 kB that does not compress."""
    return zip_bytes({"weights": random.Random(7).randbytes(100_000)})


def get(url, folder, patience=HASTY):
    return download_zip(url, folder / "m.zip", progress=False, patience=patience)


def asked(server):
    return [request.headers.get("Range") for request in server.gets("/m.zip")]


def test_normal(server, body, tmp_path):
    path = get(server.serve("/m.zip", body), tmp_path)
    assert path.read_bytes() == body
    assert os.listdir(tmp_path) == ["m.zip"]
    assert asked(server) == [None]


def test_no_declared_length(server, body, tmp_path):
    url = server.serve("/m.zip", body, sends_length=False, ranges=False)
    assert get(url, tmp_path).read_bytes() == body


def test_a_cut_is_noticed_without_a_declared_length(server, body, tmp_path):
    url = server.serve("/m.zip", body, [cut(9000)], sends_length=False)
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server) == [None, "bytes=9000-"]


@pytest.mark.parametrize("repeats_etag", [True, False])
def test_a_cut_is_resumed(server, body, tmp_path, repeats_etag):
    faults = [cut(40_000), cut(20_000)]
    url = server.serve("/m.zip", body, faults, repeats_etag=repeats_etag)
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server) == [None, "bytes=40000-", "bytes=60000-"]
    assert [r.headers.get("If-Range") for r in server.gets("/m.zip")][1:] == [
        '"v1"'
    ] * 2


def test_a_cut_within_the_first_bytes(server, body, tmp_path):
    url = server.serve("/m.zip", body, [cut(0), cut(2)])
    assert get(url, tmp_path).read_bytes() == body


def test_a_later_call_resumes(server, body, tmp_path):
    url = server.serve("/m.zip", body, [cut(40_000)] + [status(503)] * 3)
    with pytest.raises(TransferError, match="the last time because.*503"):
        get(url, tmp_path)
    assert not (tmp_path / "m.zip").exists()
    assert (tmp_path / "m.zip.partial").read_bytes() == body[:40_000]
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server)[-1] == "bytes=40000-"
    assert os.listdir(tmp_path) == ["m.zip"]


def test_a_whole_part_needs_no_byte_more(server, body, tmp_path):
    url = server.serve("/m.zip", body, [cut(40_000)] + [status(503)] * 3)
    with pytest.raises(TransferError):
        get(url, tmp_path)
    (tmp_path / "m.zip.partial").write_bytes(body)  # as if killed before the rename
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server)[-1] == f"bytes={len(body)}-"


def test_a_server_without_ranges_starts_over(server, body, tmp_path):
    url = server.serve("/m.zip", body, [cut(40_000)], ranges=False)
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server) == [None, "bytes=40000-"]


def test_no_resuming_without_proof_of_sameness(server, body, tmp_path):
    url = server.serve("/m.zip", body, [cut(40_000)], etag='W/"weak"')
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server) == [None, None]


def test_resuming_by_date(server, body, tmp_path):
    date = "Mon, 23 May 2022 10:00:00 GMT"
    url = server.serve("/m.zip", body, [cut(40_000)], etag=None, last_modified=date)
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server) == [None, "bytes=40000-"]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changed_between_tries(server, body, tmp_path, honours_if_range):
    newer = zip_bytes({"weights": random.Random(8).randbytes(90_000)})

    def replace(handler, resource):
        handler.send(resource, stop=40_000)
        resource.body, resource.etag = newer, '"v2"'

    url = server.serve("/m.zip", body, [replace], honours_if_range=honours_if_range)
    assert get(url, tmp_path).read_bytes() == newer


def test_a_file_that_became_shorter_than_the_part(server, body, tmp_path):
    newer = zip_bytes({"weights": random.Random(8).randbytes(5000)})

    def replace(handler, resource):
        handler.send(resource, stop=40_000)
        resource.body, resource.etag = newer, '"v2"'

    url = server.serve("/m.zip", body, [replace], honours_if_range=False)
    assert get(url, tmp_path).read_bytes() == newer


def test_an_endless_series_of_cuts_ends(server, body, tmp_path):
    url = server.serve("/m.zip", body, [cut(50)] * 100)
    with pytest.raises(TransferError, match="failed 12 times.*cut off after 600 of"):
        get(url, tmp_path)


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_passing_errors_are_tried_again(server, body, tmp_path, code):
    url = server.serve("/m.zip", body, [status(code), status(code)])
    assert get(url, tmp_path).read_bytes() == body
    assert len(asked(server)) == 3


def test_the_server_says_when_to_come_back(server, body, tmp_path):
    url = server.serve("/m.zip", body, [status(503, Retry_After="1")])
    patience = Patience(timeout=1, pause=0.001, longest_pause=0.3)
    start = time.monotonic()
    get(url, tmp_path, patience)
    assert 0.3 <= time.monotonic() - start < 1  # heeded, within our own bound


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_final_errors_are_not(server, body, tmp_path, code):
    url = server.serve("/m.zip", body, [status(code)])
    with pytest.raises(TransferError, match=f"answered {code}"):
        get(url, tmp_path)
    assert len(asked(server)) == 1
    assert os.listdir(tmp_path) == []


def test_a_web_page_is_not_a_zip(server, tmp_path):
    url = server.serve("/m.zip", b"<html>gone</html>", kind="text/html; charset=utf-8")
    with pytest.raises(TransferError, match="gave a web page instead"):
        get(url, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "wrong", [b"<!DOCTYPE html>", b"Rar!....", b"", b"P", b"PK\x03\x04 and no more"]
)
def test_wrong_content_under_the_right_type(server, tmp_path, wrong):
    url = server.serve("/m.zip", wrong)
    with pytest.raises(TransferError, match="not a zip"):
        get(url, tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_unasked_coding(server, body, tmp_path):
    url = server.serve("/m.zip", body, headers={"Content-Encoding": "gzip"})
    with pytest.raises(TransferError, match="unasked coding 'gzip'"):
        get(url, tmp_path)


def test_silence(server, body, tmp_path):
    url = server.serve("/m.zip", body, [hang] * 3)
    with pytest.raises(TransferError, match="failed 3 times.*timed out"):
        get(url, tmp_path, Patience(timeout=0.1, tries=3, pause=0.01))


def test_silence_in_the_middle(server, body, tmp_path):
    url = server.serve("/m.zip", body, [stall(40_000)])
    assert get(url, tmp_path).read_bytes() == body
    assert asked(server) == [None, "bytes=40000-"]


def test_a_trickle_is_given_up(server, body, tmp_path):
    url = server.serve("/m.zip", body, [slowly(0.1)])
    patience = Patience(timeout=1, pause=0.01, slowest=1e6, window=0.15)
    assert get(url, tmp_path, patience).read_bytes() == body
    assert len(asked(server)) == 2


def test_nobody_there(tmp_path, server):
    with pytest.raises(TransferError, match="out of reach"):
        get("http://127.0.0.1:9/m.zip", tmp_path)  # the discard port: nothing listens
    with pytest.raises(TransferError, match="out of reach"):
        get("http://no-such-host.invalid/m.zip", tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://a/b.zip", "data:,x"])
def test_only_the_web(tmp_path, url):
    with pytest.raises(TransferError, match="not an http or https address"):
        get(url, tmp_path)


def test_redirects(server, body, tmp_path):
    server.serve("/there.zip", body)
    url = server.serve("/m.zip", b"", [status(302, Location="/there.zip")])
    assert get(url, tmp_path).read_bytes() == body


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/m.zip"])
def test_redirects_off_the_web(server, tmp_path, target):
    url = server.serve("/m.zip", b"", [status(302, Location=target)])
    with pytest.raises(TransferError, match="refused|answered 302"):
        get(url, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_too_small(server, body, tmp_path, monkeypatch):
    usage = zoo.transfer.shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(zoo.transfer.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="5,000 left.*BERT4KERAS3_CACHE"):
        get(server.serve("/m.zip", body), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up(server, body, tmp_path, monkeypatch):
    class FullFile(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 50_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def open_full(path, mode):
        return FullFile(path, mode.replace("b", ""))

    monkeypatch.setattr(zoo.transfer, "open", open_full, raising=False)
    with pytest.raises(DiskFullError, match="Nothing was kept"):
        get(server.serve("/m.zip", body), tmp_path)
    assert os.listdir(tmp_path) == []
    assert len(asked(server)) == 1  # trying again would not make room


def test_a_stream_without_end(server, body, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo.transfer, "_LARGEST", 50_000)
    with pytest.raises(TransferError, match="does not end after 50,000"):
        get(server.serve("/m.zip", body, sends_length=False), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_foreign_note_is_not_trusted(server, body, tmp_path):
    (tmp_path / "m.zip.partial").write_bytes(b"something else")
    for note in ('{"url": "http://elsewhere/m.zip", "validator": "x"}', "[1]", "{"):
        (tmp_path / "m.zip.partial.json").write_text(note)
        assert get(server.serve("/m.zip", body), tmp_path).read_bytes() == body
        (tmp_path / "m.zip").rename(tmp_path / "m.zip.partial")
    assert asked(server) == [None] * 3


def test_the_bar_starts_where_the_part_ends(server, body, tmp_path, capsys):
    url = server.serve("/m.zip", body, [cut(40_000)])
    download_zip(url, tmp_path / "m.zip", progress=True, patience=HASTY)
    shown = capsys.readouterr().err
    assert "m.zip: 100%" in shown and "40%" in shown
