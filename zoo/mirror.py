"""Files of a hub repository, all from one commit, as one folder or not at all."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from zoo.archive import DiskFullError, is_disk_full, sync_folder
from zoo.checksums import record_checksums, sha256
from zoo.preset import Mirror
from zoo.transfer import TransferError


def fetch_mirror(
    mirror: Mirror, target: Path, *, work: Path, progress: bool = True
) -> Path:
    """Downloads the files of `mirror` into the new folder `target`.

    The hub's own client does the transfer, so its settings hold: `HF_ENDPOINT`,
    `HF_TOKEN`, and files that other programs have already put in its cache. Parts of
    an interrupted download are kept in `work` and continued. One caller at a time: hold
    a lock.

    Args:
        mirror: the repository and its files.
        target: the folder to make; checksums are recorded inside.
        work: an existing folder on the same disk, for what is not complete yet.
        progress: show progress bars.

    Returns:
        `target`.

    Raises:
        TransferError: the hub does not answer, lacks a file, or gives wrong content.
        DiskFullError: there is no room; nothing is kept.
    """
    partial = work / f"{target.name}.partial"
    try:
        partial.mkdir(exist_ok=True)
        commit = _download(mirror, partial, progress)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        record_checksums(partial, source=f"hub: {mirror.repo_id}@{commit}")
        os.replace(partial, target)
    except OSError as error:
        if is_disk_full(error):
            shutil.rmtree(partial, ignore_errors=True)
            raise DiskFullError(
                f"The disk is full: {mirror.repo_id} does not fit into {target.parent}."
                " Nothing was kept; free some space, or name another folder in the "
                "environment variable BERT4KERAS3_CACHE."
            ) from error
        if partial.is_dir() and not any(p.is_file() for p in partial.rglob("*")):
            shutil.rmtree(partial)
        raise
    sync_folder(target.parent)
    return target


def _download(mirror: Mirror, folder: Path, progress: bool) -> str | None:
    try:
        import huggingface_hub
    except ImportError as error:
        raise TransferError(
            "the hub's client is not installed; pip install huggingface_hub"
        ) from error
    # The client reads this variable once, when it is imported; read it anew.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    commit: str | None = None
    try:
        for name in mirror.files:
            url = huggingface_hub.hf_hub_url(
                mirror.repo_id, name, revision=commit, endpoint=endpoint
            )
            facts = huggingface_hub.get_hf_file_metadata(url, endpoint=endpoint)
            commit = commit or facts.commit_hash
            huggingface_hub.hf_hub_download(
                mirror.repo_id,
                name,
                revision=commit,
                local_dir=folder,
                endpoint=endpoint,
                tqdm_class=None if progress else _silent_bar(),
            )
            _check_file(folder / name, facts.size, facts.etag)
    except TransferError:
        raise
    except Exception as error:
        # The client lets through its own errors and those of the HTTP library below
        # it, whichever that is in the installed version.
        full = _disk_full_cause(error)
        if full is not None:
            raise full from error
        raise TransferError(
            f"{mirror.repo_id} on the hub: {_first_line(error)}"
        ) from error
    return commit


def _check_file(path: Path, size: int | None, etag: str | None) -> None:
    found = path.stat().st_size
    if size is not None and found != size:
        path.unlink()
        raise TransferError(f"{path.name} has {found:,} bytes instead of {size:,}.")
    # The hub gives large files their SHA-256 as ETag, small ones another hash.
    if etag and re.fullmatch(r"[0-9a-f]{64}", etag) and sha256(path) != etag:
        path.unlink()
        raise TransferError(f"{path.name} arrived damaged: its SHA-256 is not {etag}.")


def _disk_full_cause(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError) and is_disk_full(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _silent_bar() -> Any:
    from tqdm import tqdm

    class SilentBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # an argument of the hub's own bar
            super().__init__(*args, **kwargs | {"disable": True})

    return SilentBar
