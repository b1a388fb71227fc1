"""The zoo's table as Markdown, for the READMEs and the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zoo.preset import Preset
from zoo.scores import CLUE_TASKS


@dataclass(frozen=True)
class Wording:
    """The words of the table in one language.

    Attributes:
        headings: titles of name, parameters, vocabulary, licence, published scores.
        vocabulary: kind of a vocabulary -> text with `{}` for its size.
        splits: split of a published table -> what to call it.
    """

    headings: tuple[str, str, str, str, str]
    vocabulary: Mapping[str, str]
    splits: Mapping[str, str]


ENGLISH = Wording(
    ("Name", "Parameters", "Vocabulary", "Licence", "CLUE mean, published"),
    {"char": "{} characters", "word": "{} words"},
    {"dev": "dev", "leaderboard": "leaderboard"},
)
CHINESE = Wording(
    ("名称", "参数量", "词表", "许可证", "已公布的 CLUE 平均分"),
    {"char": "{} 字", "word": "{} 词"},
    {"dev": "验证集", "leaderboard": "排行榜"},
)


def parameter_text(parameters: int) -> str:
    """Writes a parameter count in millions.

    Example:

    >>> parameter_text(96_520_704)
    '96.5 M'
    """
    return f"{parameters / 1e6:.1f} M"


def mean_scores(preset: Preset) -> list[tuple[float, str, str]]:
    """Averages the published tables that cover all eleven CLUE tasks.

    A table with fewer tasks has no mean that could be compared, and is left out.

    Args:
        preset: a row of the zoo.

    Returns:
        A list of `(mean, split, source)`, one per published table.
    """
    tables: dict[tuple[str, str], dict[str, float]] = {}
    for score in preset.scores:
        tables.setdefault((score.split, score.source), {})[score.task] = score.value
    return [
        (sum(values.values()) / len(values), split, source)
        for (split, source), values in tables.items()
        if set(values) == set(CLUE_TASKS)
    ]


def zoo_table(presets: Iterable[Preset], wording: Wording = ENGLISH) -> str:
    """Writes presets as one Markdown table, a row each.

    Args:
        presets: rows of the zoo.
        wording: the language. The last column is the mean of the published scores,
            with its split and source.

    Returns:
        The table, ending in a line feed.
    """
    lines = [wording.headings, ("---", "---:", "---", "---", "---")]
    for preset in presets:
        name = f"`{preset.name}`"
        if preset.homepage:
            name = f"[{name}]({preset.homepage})"
        means = (
            f"{mean:.2f} ([{wording.splits[split]}]({source}))"
            for mean, split, source in mean_scores(preset)
        )
        lines.append(
            (
                name,
                parameter_text(preset.parameters),
                wording.vocabulary[preset.vocabulary.kind].format(
                    preset.vocabulary.size
                ),
                preset.licence,
                ", ".join(means) or "–",
            )
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
