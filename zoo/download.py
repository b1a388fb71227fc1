"""Getting a released model onto this machine: official address, mirrors, or by hand.

Whatever the way, the outcome is one folder of released files with `checksums.json`
beside them, and it appears complete or not at all. Environment variables:

- `BERT4KERAS3_CACHE`: the folder that holds the models, `~/.cache/bert4keras3` unless
  set;
- `BERT4KERAS3_OFFLINE=1`: never use the network;
- `HF_ENDPOINT`: address of the hub, for the mirrors.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from zoo.archive import ArchiveError, extract_zip
from zoo.catalogue import find
from zoo.checksums import ChecksumError, check_checksums, record_checksums, sha256
from zoo.mirror import fetch_mirror
from zoo.preset import Mirror, Preset
from zoo.transfer import Patience, TransferError, download_zip

__all__ = [
    "WeightsNotFoundError",
    "cache_folder",
    "check_checksums",
    "fetch",
    "manual_instructions",
    "record_checksums",
]

_LOGGER = logging.getLogger(__name__)
_WEIGHTS = ("*.ckpt*.index", "*.bin", "*.safetensors", "*.h5", "*.keras")


class WeightsNotFoundError(FileNotFoundError):
    """The weights are not on this machine, and no address gave them."""


def cache_folder() -> Path:
    """Returns the folder that holds the models: `BERT4KERAS3_CACHE`, or the default.

    Returns:
        A path; the folder need not exist yet.
    """
    named = os.environ.get("BERT4KERAS3_CACHE")
    return Path(named or "~/.cache/bert4keras3").expanduser()


def fetch(
    preset: Preset | str,
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
    patience: Patience | None = None,
) -> Path:
    """Returns the folder of a released model's files, downloading them if need be.

    Tried in turn: a folder or zip in the cache, put there by an earlier call or by
    hand; the official addresses; the mirrors. Two callers that ask for the same model
    at the same time download it once.

    Args:
        preset: a row of the table, or its name.
        cache: the folder to keep models in, `cache_folder()` if None.
        progress: show progress bars.
        patience: timeouts and number of attempts at the official address.

    Returns:
        The folder. Its files have been compared with their recorded checksums.

    Raises:
        UnknownModelError: no released model has this name.
        WeightsNotFoundError: nothing gave the weights; the message says what was tried
            and where to put the files by hand.
        ChecksumError: files in the cache have changed, or a zip put there by hand is
            not the published one.
        ArchiveError: a zip put there by hand is damaged or unsafe.
        DiskFullError: there is no room for the files.

    Example:

    >>> fetch("gau-alpha")  # doctest: +SKIP
    PosixPath('/home/me/.cache/bert4keras3/chinese_GAU-alpha-char_L-24_H-768')
    """
    row = find(preset) if isinstance(preset, str) else preset
    if row.bundled is not None:
        return _bundled(row)
    root = cache_folder() if cache is None else Path(cache)
    folder = _placed_folder(row, root)
    if folder is None:
        folder = _fetch_locked(row, root, progress, patience)
    return folder


def manual_instructions(
    preset: Preset | str, cache: str | os.PathLike[str] | None = None
) -> str:
    """Says where a person gets a model's files, where to put them, and what then works.

    Args:
        preset: a row of the table, or its name.
        cache: the folder that holds the models, `cache_folder()` if None.

    Returns:
        A text of a few lines.
    """
    row = find(preset) if isinstance(preset, str) else preset
    if row.bundled is not None:
        return f"{row.name!r} comes with this package; there is nothing to fetch."
    root = cache_folder() if cache is None else Path(cache)
    lines = [f"To put the weights of {row.name!r} there by hand:"]
    lines.append(f"  1. Get {row.archive}.zip from one of")
    lines += [f"       {address}" for address in (*row.urls, *row.manual, row.homepage)]
    lines.append("  2. Put it, as it is, at")
    lines.append(f"       {root / f'{row.archive}.zip'}")
    lines.append("     or its files, unpacked, in the folder")
    lines.append(f"       {root / str(row.archive)}")
    for mirror in row.mirrors:
        lines.append(
            f"     or {', '.join(mirror.files)} of "
            f"https://huggingface.co/{mirror.repo_id} in the folder"
        )
        lines.append(f"       {root / _mirror_name(mirror)}")
    lines.append("  3. Then this works, also without a network:")
    lines.append(f'       zoo.load("{row.name}")')
    lines += [
        "Files kept elsewhere load by their path:",
        f'       zoo.load("path/to/{row.archive}.zip")',
        f"BERT4KERAS3_CACHE in the environment names another folder than {root},",
        "HF_ENDPOINT another address than https://huggingface.co for the mirrors.",
    ]
    return "\n".join(lines)


def _bundled(row: Preset) -> Path:
    folder = Path(__file__).parent / str(row.bundled)
    if not _holds_weights(folder):
        raise WeightsNotFoundError(
            f"{row.name!r} comes with this package, but {folder} holds no weights: the "
            "installation is not complete. Install the package again."
        )
    check_checksums(folder)
    return folder


# --- what is on disk ----------------------------------------------------------------


def _placed_folder(row: Preset, root: Path) -> Path | None:
    """Returns the folder in the cache that holds this model, checked, or None."""
    names = [str(row.archive), row.name, *(_mirror_name(m) for m in row.mirrors)]
    for name in names:
        folder = root / name
        if not folder.is_dir() or not any(folder.iterdir()):
            continue
        inside = _weights_folder(folder)
        if inside is None:
            raise WeightsNotFoundError(
                f"{folder} is there, but holds no checkpoint (bert_model.ckpt.index, "
                "pytorch_model.bin or model.safetensors). Put the files of "
                f"{row.name!r} into it, or remove it to have them fetched."
            )
        _check_or_record(inside)
        return inside
    return None


def _weights_folder(folder: Path) -> Path | None:
    if _holds_weights(folder):
        return folder
    # Unpacking by hand often leaves the zip's own folder inside one of the same name.
    inner = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    if len(inner) == 1 and _holds_weights(inner[0]):
        return inner[0]
    return None


def _holds_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in _WEIGHTS)


def _check_or_record(folder: Path) -> None:
    if check_checksums(folder):
        return
    try:
        record_checksums(folder, source="put there by hand")
    except OSError as error:
        # A cache that an administrator filled may be read-only, and is as good.
        _LOGGER.info("Checksums of %s could not be recorded: %s", folder, error)


def _placed_zip(row: Preset, root: Path) -> Path | None:
    for name in (f"{row.archive}.zip", f"{row.name}.zip"):
        if (root / name).is_file():
            return root / name
    return None


def _mirror_name(mirror: Mirror) -> str:
    return mirror.repo_id.replace("/", "--")


# --- fetching -----------------------------------------------------------------------


def _fetch_locked(
    row: Preset, root: Path, progress: bool, patience: Patience | None
) -> Path:
    from filelock import FileLock

    work = root / "downloads"
    if _offline() and _placed_zip(row, root) is None:
        raise WeightsNotFoundError(
            f"The weights of {row.name!r} are not in {root}, and BERT4KERAS3_OFFLINE "
            f"forbids fetching them.\n{manual_instructions(row, root)}"
        )
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"The folder {work} cannot be made ({error.strerror}). Name a folder that "
            "can be written to in the environment variable BERT4KERAS3_CACHE",
        ) from error
    with FileLock(str(work / f"{row.archive}.lock")):
        folder = _placed_folder(row, root)  # another caller may have been faster
        if folder is not None:
            return folder
        placed = _placed_zip(row, root)
        if placed is not None:
            return _unpack(
                row, placed, root, source=f"put there by hand: {placed.name}"
            )
        return _fetch_from_web(row, root, progress, patience)


def _fetch_from_web(
    row: Preset, root: Path, progress: bool, patience: Patience | None
) -> Path:
    failures = []
    work = root / "downloads"
    archive = work / f"{row.archive}.zip"
    if archive.is_file():  # left whole by a caller that died or met a full disk
        with suppress(ArchiveError, ChecksumError):
            return _unpack_download(row, archive, root, row.urls[0])
    for url in row.urls:
        try:
            download_zip(url, archive, progress=progress, patience=patience)
            return _unpack_download(row, archive, root, url)
        except TransferError as error:
            failures.append(str(error))
        except (ArchiveError, ChecksumError) as error:
            failures.append(f"{url} gave a file that was refused: {error}")
    for mirror in row.mirrors:
        target = root / _mirror_name(mirror)
        try:
            return fetch_mirror(mirror, target, work=work, progress=progress)
        except TransferError as error:
            failures.append(str(error))
    tried = "\n".join(f"  - {failure}" for failure in failures)
    raise WeightsNotFoundError(
        f"The weights of {row.name!r} could not be fetched:\n{tried}\n"
        f"{manual_instructions(row, root)}"
    )


def _unpack_download(row: Preset, archive: Path, root: Path, url: str) -> Path:
    try:
        folder = _unpack(row, archive, root, source=url)
    except (ArchiveError, ChecksumError):
        archive.unlink()
        raise
    archive.unlink()
    return folder


def _unpack(row: Preset, archive: Path, root: Path, *, source: str) -> Path:
    digest = sha256(archive)
    if row.sha256 is not None and digest != row.sha256:
        raise ChecksumError(
            f"{archive} is not the published file: its SHA-256 is {digest} instead of "
            f"{row.sha256}. Remove it and fetch it again."
        )
    stage = root / "downloads" / str(row.archive)
    shutil.rmtree(stage, ignore_errors=True)
    try:
        extract_zip(archive, stage)
        if not _holds_weights(stage):
            raise ArchiveError(
                f"{archive} is not the archive of {row.name!r}: it holds no checkpoint "
                "(bert_model.ckpt.index is missing)."
            )
        record_checksums(stage, source=source, archive_sha256=digest)
        target = root / str(row.archive)
        if target.is_dir():
            target.rmdir()  # only an empty one gets here
        os.replace(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return target


def _offline() -> bool:
    value = os.environ.get("BERT4KERAS3_OFFLINE", "")
    return value.strip().lower() not in ("", "0", "false", "no")
