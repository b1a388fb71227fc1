"""A web server and an empty cache for the tests of the zoo."""

from pathlib import Path

import pytest
from web_server import WebServer, released_files

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with WebServer() as running:
        yield running


@pytest.fixture
def released():
    """The files of a released GAU-α folder, tiny and random."""
    return released_files(GOLDEN / "models" / "gau_alpha")
