"""What the first argument of `zoo.load` names: a released model, or a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from zoo.archive import extract_zip
from zoo.catalogue import find
from zoo.checksums import check_checksums, sha256
from zoo.download import cache_folder, fetch
from zoo.preset import Preset
from zoo.presets import PRESETS


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        preset: the row of the table, if the model is a released one.
        path: checkpoint or folder on disk; `None` for a preset not fetched yet.
        folder: the folder with config and vocabulary, if known.
    """

    preset: Preset | None
    path: Path | None = None

    @property
    def folder(self) -> Path | None:
        if self.path is None:
            return None
        return self.path if self.path.is_dir() else self.path.parent

    def fetched(self) -> Source:
        """The same source with its files on disk, downloaded if need be."""
        if self.path is not None:
            return self
        assert self.preset is not None
        return Source(self.preset, fetch(self.preset))

    def __str__(self) -> str:
        return str(self.path) if self.path else self.preset.name if self.preset else ""


def resolve(name_or_path: str | os.PathLike[str]) -> Source:
    """Find out what a name or a path means; nothing is downloaded yet.

    A name of the table wins over a file of the same name; write `./name` for the file.
    A folder that is called like a released archive is taken for that release, so its
    config is complete even where the released file says little.

    Args:
        name_or_path: a preset's name, a released folder, a zip, a checkpoint file or
            the prefix of a TF1 checkpoint.

    Returns:
        A `Source`.

    Raises:
        UnknownModelError: neither a name nor a path; names the nearest model.
        FileNotFoundError: it looks like a path, but there is nothing.
        ArchiveError: an unsafe or damaged zip.
    """
    text = os.fspath(name_or_path)
    if text in PRESETS:
        return Source(PRESETS[text])
    path = Path(text).expanduser()
    if path.is_dir():
        check_checksums(path)
        return Source(_released_as(path.name), path)
    if path.suffix == ".zip" and path.is_file():
        folder = _unpacked(path)
        return Source(_released_as(path.stem) or _released_as(folder.name), folder)
    if path.is_file() or path.with_name(path.name + ".index").is_file():
        return Source(_released_as(path.resolve().parent.name), path)
    if isinstance(name_or_path, os.PathLike) or os.sep in text or path.suffix:
        raise FileNotFoundError(
            f"There is nothing at {path}. Expected a folder with a released "
            "checkpoint, a zip, a checkpoint file or the prefix of a TF1 checkpoint."
        )
    return Source(find(text))


def _released_as(name: str) -> Preset | None:
    for preset in PRESETS.values():
        if preset.archive == name:
            return preset
    return None


def _unpacked(path: Path) -> Path:
    """The folder of a zip, unpacked once and kept in the cache under its checksum."""
    target = cache_folder() / "unpacked" / f"{path.stem}-{sha256(path)[:12]}"
    if not target.is_dir():
        try:
            extract_zip(path, target)
        except FileExistsError:  # another process was faster
            pass
    return target
