"""Finding and describing the released models: what `zoo.list_models` prints."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from zoo.preset import Preset
from zoo.presets import PRESETS
from zoo.scores import Score

_WIDTH = 88


class UnknownModelError(ValueError):
    """No released model has the name that was asked for."""


@dataclass(frozen=True)
class ModelSummary:
    """One line of `zoo.list_models()`.

    Attributes:
        name: what `zoo.load` takes.
        architecture: "gau_alpha", "roformer", "roformer_v2" or "bert".
        parameters: number of weights of the backbone.
        vocabulary: "char" or "word", and its size.
        source: where the weights come from.
    """

    name: str
    architecture: str
    parameters: int
    vocabulary: str
    source: str


class ModelList(list[ModelSummary]):
    """A list of `ModelSummary` that prints as a table."""

    def __init__(self, models: Iterable[ModelSummary], pattern: str | None = None):
        super().__init__(models)
        self.pattern = pattern

    @property
    def names(self) -> list[str]:
        """The names alone."""
        return [model.name for model in self]

    def __str__(self) -> str:
        if not self:
            return (
                f"No released model is called {self.pattern!r}.\n"
                + _suggestion(self.pattern or "")
                + f"All of them: {', '.join(PRESETS)}."
            )
        header = ("name", "architecture", "weights", "vocabulary", "comes from")
        rows = [header] + [
            (
                model.name,
                model.architecture,
                f"{model.parameters / 1e6:.1f}M",
                model.vocabulary,
                model.source,
            )
            for model in self
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if column == 2 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    __repr__ = __str__


@dataclass(frozen=True)
class ModelDescription:
    """Everything the zoo knows about one released model; prints as a page of text."""

    preset: Preset

    def __str__(self) -> str:
        row = self.preset
        config = ", ".join(f"{key}={value!r}" for key, value in row.config.items())
        vocabulary = f"{row.vocabulary.size} {row.vocabulary.kind} tokens"
        if row.vocabulary.pre_tokenize:
            vocabulary += f", cut into words by {row.vocabulary.pre_tokenize} first"
        if row.vocabulary.lowercase:
            vocabulary += ", lower case"
        weights = f"{row.parameters:,} in the backbone"
        if row.checkpoint_parameters != row.parameters:
            weights += f", {row.checkpoint_parameters:,} with the masked-LM head"
        fields = [
            ("architecture", row.architecture),
            ("weights", weights),
            ("config", config),
            ("vocabulary", vocabulary),
            ("pairs", _pairs(row)),
            ("pretraining", row.pretraining),
            ("licence", row.licence),
            ("homepage", row.homepage),
            ("papers", ", ".join(row.papers)),
            ("comes from", _full_source(row)),
        ]
        lines = [row.name]
        lines += [_field(title, text) for title, text in fields if text]
        lines += [_field("note", text) for text in row.notes]
        lines += _score_lines(row.scores)
        return "\n".join(lines)

    __repr__ = __str__


def find(name: str) -> Preset:
    """Returns the row of a released model.

    Args:
        name: a preset's name, such as "gau-alpha".

    Returns:
        The `Preset`.

    Raises:
        UnknownModelError: no model has this name; the message names the nearest ones
            and lists all of them.

    Example:

    >>> find("roformer-v2-base").architecture
    'roformer_v2'
    """
    if not isinstance(name, str):
        raise TypeError(
            f"A model's name is a str such as 'gau-alpha', not {type(name).__name__}."
        )
    if name in PRESETS:
        return PRESETS[name]
    raise UnknownModelError(
        f"No released model is called {name!r}.\n{_suggestion(name)}"
        f"The models are: {', '.join(PRESETS)}.\n"
        "For weights on disk, give the path of their folder, zip or checkpoint."
    )


def list_models(pattern: str | None = None) -> ModelList:
    """Lists the released models, all or those whose name matches a pattern.

    Args:
        pattern: shell-like, such as "roformer*"; None for all.

    Returns:
        A list of `ModelSummary` that prints as a table. It is empty where nothing
        matches, and then prints the nearest names.

    Example:

    >>> list_models("*-tiny").names
    ['gau-alpha-tiny', 'roformer-v2-tiny']
    """
    wanted = "*" if pattern is None else pattern.lower()
    return ModelList(
        (
            ModelSummary(
                name=row.name,
                architecture=row.architecture,
                parameters=row.parameters,
                vocabulary=f"{row.vocabulary.kind} {row.vocabulary.size}",
                source=_source(row),
            )
            for row in PRESETS.values()
            if fnmatchcase(row.name, wanted)
        ),
        pattern,
    )


def describe(name: str) -> ModelDescription:
    """Describes one released model: size, data, licence, scores, where it comes from.

    Args:
        name: a preset's name.

    Returns:
        A `ModelDescription`: print it, or read its `preset`.

    Raises:
        UnknownModelError: no model has this name.

    Example:

    >>> print(describe("gau-alpha").preset.licence)
    Apache-2.0
    """
    return ModelDescription(find(name))


def _suggestion(name: str) -> str:
    by_file = {row.archive: row.name for row in PRESETS.values() if row.archive}
    by_file |= {m.repo_id: row.name for row in PRESETS.values() for m in row.mirrors}
    by_file |= {repo.split("/")[-1]: preset for repo, preset in by_file.items()}
    stem = name.removesuffix(".zip").rstrip("/")
    if stem in by_file:
        return f"These are the files of {by_file[stem]!r}.\n"
    plain = name.strip().lower().replace("_", "-").replace("*", "")
    near = difflib.get_close_matches(plain, PRESETS, n=3, cutoff=0.6)
    if not near:
        return ""
    return f"Did you mean {' or '.join(repr(match) for match in near)}?\n"


def _source(row: Preset) -> str:
    if row.bundled:
        return "this package"
    hosts = [url.split("/")[2] for url in row.urls]
    return ", ".join(hosts + ["hub"] * bool(row.mirrors))


def _full_source(row: Preset) -> str:
    if row.bundled:
        return f"this package, zoo/{row.bundled}"
    sources = list(row.urls)
    sources += [f"{m.repo_id} ({', '.join(m.files)})" for m in row.mirrors]
    return "; then ".join(sources)


def _pairs(row: Preset) -> str:
    if row.zero_segments:
        return "segment ids are 0 for both texts"
    return "segment ids are 0 for the first text and 1 for the second"


def _field(title: str, text: str) -> str:
    return textwrap.fill(
        text,
        width=_WIDTH,
        initial_indent=f"  {title:<13}",
        subsequent_indent=" " * 15,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _score_lines(scores: tuple[Score, ...]) -> list[str]:
    tables: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        key = (score.split, score.source, score.setting)
        tables.setdefault(key, []).append(score)
    lines = []
    for (split, source, setting), group in tables.items():
        numbers = ", ".join(f"{score.task} {score.value:.2f}" for score in group)
        lines.append(_field("scores", f"CLUE {split}: {numbers}"))
        lines.append(_field("", f"({source}, {setting})"))
    return lines
