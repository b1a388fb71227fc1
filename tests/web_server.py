"""A small web server on the loopback address that misbehaves on request.

`server.serve("/model.zip", body)` answers GET and HEAD with the body, an ETag and
ranges. `faults` are applied to the GETs of that path one after the other; each is a
function of the handler and the resource.
"""

import hashlib
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

RELEASED = ("bert_config.json", "checkpoint", "vocab.txt")


@dataclass
class Resource:
    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    honours_if_range: bool = True
    repeats_etag: bool = True
    sends_length: bool = True
    kind: str = "application/zip"
    headers: dict = field(default_factory=dict)
    faults: deque = field(default_factory=deque)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict


class WebServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.resources: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def serve(self, path: str, body: bytes, faults: Iterable[Callable] = (), **facts):
        self.resources[path] = Resource(body, faults=deque(faults), **facts)
        return self.url + path

    def gets(self, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == "GET" and r.path == path]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that hangs up early is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.split("?")[0]
        headers = dict(self.headers.items())
        self.server.requests.append(Request(self.command, path, headers))
        resource = self.server.resources.get(path)
        if resource is None:
            return self.empty(404)
        if self.command == "GET" and resource.faults:
            return resource.faults.popleft()(self, resource)
        self.send(resource)

    def empty(self, code, headers=()):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, resource: Resource, stop: int | None = None, wait: float = 0.0):
        """Sends the body, or the part asked for, or only its first `stop` bytes."""
        start = self.start_of_range(resource)
        if start is not None and start >= len(resource.body):
            return self.empty(416, [("Content-Range", f"bytes */{len(resource.body)}")])
        self.send_response(200 if start is None else 206)
        if resource.etag and (start is None or resource.repeats_etag):
            self.send_header("ETag", resource.etag)
        if resource.last_modified:
            self.send_header("Last-Modified", resource.last_modified)
        total = len(resource.body)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        body = resource.body[start or 0 :]
        if resource.sends_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.send_header("Content-Type", resource.kind)
        for name, value in resource.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for first in range(0, len(body[:stop]), 1 << 14):
            self.wfile.write(body[:stop][first : first + (1 << 14)])
            if wait:
                self.server.stopped.wait(wait)
        if stop is not None:
            self.close_connection = True

    def start_of_range(self, resource: Resource) -> int | None:
        asked = self.headers.get("Range")
        if not asked or not resource.ranges:
            return None
        condition = self.headers.get("If-Range")
        now = (resource.etag, resource.last_modified)
        if condition and resource.honours_if_range and condition not in now:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))


# --- faults -------------------------------------------------------------------------


def cut(stop: int) -> Callable:
    """Sends `stop` bytes, then hangs up."""
    return lambda handler, resource: handler.send(resource, stop=stop)


def slowly(wait: float) -> Callable:
    """Waits after each 16 kB."""
    return lambda handler, resource: handler.send(resource, wait=wait)


def status(code: int, **headers: str) -> Callable:
    """Answers with an error code."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda handler, resource: handler.empty(code, pairs)


def hang(handler: Handler, resource: Resource) -> None:
    """Says nothing until the server stops."""
    handler.server.stopped.wait(30)
    handler.close_connection = True


def stall(stop: int) -> Callable:
    """Sends `stop` bytes, then nothing more."""

    def fault(handler, resource):
        handler.send(resource, stop=stop)
        handler.wfile.flush()
        handler.server.stopped.wait(30)

    return fault


# --- archives -----------------------------------------------------------------------


def released_files(folder: Path) -> dict[str, bytes]:
    """Reads what a released zip of this model would hold."""
    names = [*RELEASED, *(path.name for path in folder.glob("bert_model.ckpt.*"))]
    return {name: (folder / name).read_bytes() for name in sorted(names)}


def zip_bytes(files: dict[str, bytes], folder: str = "") -> bytes:
    """Packs files as the releases are packed, inside `folder` unless it is empty."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if folder:
            archive.mkdir(folder)
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}" if folder else name, content)
    return buffer.getvalue()


# --- a hub --------------------------------------------------------------------------


def serve_hub(server: WebServer, repo_id: str, files: dict[str, bytes]) -> str:
    """Serves a repository as the Hugging Face hub does; returns its commit."""
    commit = hashlib.sha1(repo_id.encode()).hexdigest()
    for name, content in files.items():
        large = name.endswith((".bin", ".safetensors"))
        digest = hashlib.sha256 if large else hashlib.sha1
        for revision in ("main", commit):
            server.serve(
                f"/{repo_id}/resolve/{revision}/{name}",
                content,
                etag=f'"{digest(content).hexdigest()}"',
                kind="application/octet-stream",
                headers={"X-Repo-Commit": commit},
            )
    return commit
