"""What is known of a build of records until it is finished."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from bert4keras3.training.record_blocks import Block, groups_of_files
from bert4keras3.training.record_manifest import (
    NAME,
    Manifest,
    Settings,
    Shard,
    differences,
    write_json,
)

__all__ = ["Progress"]


class Progress:
    """Notes beside the shards, by which an interrupted build goes on.

    They lie in `.progress`: the settings, and a file for each finished shard. Any
    process or machine that sees the folder can read and write them.

    Args:
        folder: where the records go.
        settings: `Settings` of this build.
    """

    def __init__(self, folder: str | Path, settings: Settings):
        self.folder = Path(folder)
        self.settings = settings
        self.notes = self.folder / ".progress"

    def build(
        self, make_shards: Callable[[list[tuple[Path, ...]]], Iterable[Shard]]
    ) -> Manifest:
        """Build what is not finished yet, and write the manifest.

        Args:
            make_shards: from the groups of files to all shards.

        Returns:
            The `Manifest`.
        """
        if manifest := self.finished_manifest():
            return manifest
        sources, size = self.settings.sources, self.settings.block_characters
        groups = groups_of_files(sources, size)
        self.begin()
        return self.end(make_shards(groups))

    def finished_manifest(self) -> Manifest | None:
        """Return the manifest if the build was finished before.

        Raises:
            ValueError: it has other settings, or shards are missing.
        """
        if not (self.folder / NAME).exists():
            return None
        manifest = Manifest.read(self.folder)
        self._refuse_other(manifest.settings)
        manifest.check_files(self.folder, checksums=False)
        return manifest

    def begin(self) -> None:
        """Note the settings, or compare them with those of the first part.

        Raises:
            ValueError: the first part had other settings.
        """
        self.notes.mkdir(parents=True, exist_ok=True)
        path = self.notes / "settings.json"
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            self._refuse_other(Settings.from_json(content))
        else:
            write_json(path, self.settings.to_json())
        for partial in self.folder.glob(".partial-*"):  # left by a killed process
            partial.unlink()

    def finished(self, block: Block) -> Shard | None:
        """Return the shard of a block if an earlier part of the build wrote it.

        Raises:
            ValueError: it was written from another text.
        """
        if not self._note_of(block.shard_name).exists():
            return None
        shard = self._noted(block.shard_name)
        if shard.source_sha256 != block.digest:
            raise ValueError(
                f"The text of {shard.name} has changed since the build of "
                f"{self.folder} began. Bring the old text back, or remove the folder "
                "and build again."
            )
        file = self.folder / shard.name
        return shard if file.exists() and file.stat().st_size == shard.bytes else None

    def note(self, shard: Shard) -> Shard:
        """Note that a shard is finished; return it."""
        write_json(self._note_of(shard.name), dataclasses.asdict(shard))
        return shard

    def note_names(self, names: Iterable[str]) -> None:
        """Note which shards the corpus has, where no one process sees them all."""
        write_json(self.notes / "names.json", {"names": sorted(names)})

    def noted(self) -> list[Shard]:
        """Return the shards of `note_names`."""
        names = json.loads((self.notes / "names.json").read_text(encoding="utf-8"))
        return list(map(self._noted, names["names"]))

    def end(self, shards: Iterable[Shard]) -> Manifest:
        """Write the manifest of all shards and remove the notes.

        Raises:
            ValueError: there is not one row in the shards.
        """
        in_order = sorted(shards, key=lambda shard: shard.name)
        manifest = Manifest(self.settings, tuple(in_order))
        if not manifest.counts["rows"]:
            raise ValueError(
                f"There is no text in {', '.join(self.settings.sources)}: every "
                "document is blank. No records were made."
            )
        manifest.write(self.folder)
        for file in self.notes.iterdir():
            file.unlink()
        self.notes.rmdir()
        return manifest

    def _noted(self, name: str) -> Shard:
        content = self._note_of(name).read_text(encoding="utf-8")
        return Shard.from_json(json.loads(content))

    def _note_of(self, name: str) -> Path:
        return self.notes / f"{name}.json"

    def _refuse_other(self, held: Settings) -> None:
        if changed := differences(self.settings.to_json(), held.to_json()):
            raise ValueError(
                f"{self.folder} holds records made with {changed}. Choose another "
                "folder, or remove it."
            )
