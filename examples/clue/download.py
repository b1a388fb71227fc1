"""Fetch the official files of CLUE's tasks.

Task: get the zips of the benchmark (https://www.cluebenchmarks.com) and unpack them.
Command: python examples/clue/download.py --data FOLDER [--tasks tnews wsc]
    python examples/clue/download.py --smoke
Hardware: any; 400 MB of disk for all tasks, most of it ChID.
Without a network, or where the address is blocked, the script says which zips to fetch
by other means, and where to put them.
"""

import argparse
import contextlib
import functools
import http.server
import os
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

from zoo.archive import ArchiveError, extract_zip
from zoo.connection import TransferError
from zoo.transfer import Patience, download_zip

ADDRESS = "https://storage.googleapis.com/cluebenchmark/tasks"
TASKS = "iflytek tnews afqmc cmnli ocnli wsc csl cmrc2018 c3 chid cluener".split()
ZIPS = {task: f"{task}_public.zip" for task in TASKS}
ZIPS["wsc"] = "cluewsc2020_public.zip"


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder to put the tasks' folders into")
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    parser.add_argument("--address", default=ADDRESS, help="of a mirror")
    parser.add_argument("--smoke", action="store_true", help="from a server of its own")
    options = parser.parse_args(arguments)
    if not (options.data or options.smoke):
        parser.error("give --data, the folder to put the files into")
    return options


def fetch(task, data, address, patience=None):
    """Download and unpack one task, unless its folder is there.

    A zip that already lies in the folder is unpacked and not downloaded.

    Raises:
        TransferError: the address did not give the zip.
        ArchiveError: it is damaged, or has names outside its folder.
    """
    folder, archive = data / task, data / ZIPS[task]
    if folder.is_dir():
        return folder
    if not archive.exists():
        if os.environ.get("BERT4KERAS3_OFFLINE") == "1":
            raise TransferError("BERT4KERAS3_OFFLINE=1 forbids the network")
        download_zip(f"{address}/{ZIPS[task]}", archive, patience=patience)
    extract_zip(archive, folder)
    archive.unlink()
    return folder


@contextlib.contextmanager
def own_server():
    """A server with one small zip, so that the smoke run needs no network."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(Path(folder) / ZIPS["tnews"], "w") as archive:
            archive.writestr("train.json", '{"label": "103", "sentence": "主队胜"}\n')
        handler = functools.partial(
            http.server.SimpleHTTPRequestHandler, directory=folder
        )
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def main(arguments=None):
    """Return the number of tasks that could not be fetched."""
    options = parse_arguments(arguments)
    if options.smoke:
        os.environ.pop("BERT4KERAS3_OFFLINE", None)
        with own_server() as address, tempfile.TemporaryDirectory() as data:
            folder = fetch("tnews", Path(data), address, Patience(tries=1))
            print("fetched:", ", ".join(path.name for path in folder.iterdir()))
        return 0
    data, missing = Path(options.data), 0
    data.mkdir(parents=True, exist_ok=True)
    for task in options.tasks:
        try:
            print(f"{task}: {fetch(task, data, options.address)}")
        except (TransferError, ArchiveError) as error:
            missing += 1
            print(
                f"{task}: not fetched. {error}\n"
                f"    Fetch {ADDRESS}/{ZIPS[task]} by other means, put it at "
                f"{data / ZIPS[task]} and run this again; or unzip it to {data / task}."
            )
    return missing


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
