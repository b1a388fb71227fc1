"""Published scores of the released models, each table with its source.

Every number here was printed by somebody else; nothing was measured by this
project. A model without a published table has no scores. All values are per cent.
"""

from __future__ import annotations

from dataclasses import dataclass

CLUE_TASKS = (
    "iflytek",
    "tnews",
    "afqmc",
    "cmnli",
    "ocnli",
    "wsc",
    "csl",
    "cmrc2018",
    "c3",
    "chid",
    "cluener",
)


@dataclass(frozen=True)
class Score:
    """One published number of one model on one task."""

    task: str
    value: float
    split: str
    source: str
    setting: str


@dataclass(frozen=True)
class ScoreTable:
    """One published table: rows as they were printed, and the preset behind each.

    `rows` maps the row's printed title to one value per task; `presets` maps the
    title to the name of our preset, and lacks the titles of unreleased models.
    """

    title: str
    split: str
    source: str
    setting: str
    tasks: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    presets: dict[str, str]

    def scores_of(self, name: str) -> tuple[Score, ...]:
        """Returns this table's scores of the preset `name`, empty if it has none."""
        titles = [title for title, preset in self.presets.items() if preset == name]
        return tuple(
            Score(task, value, self.split, self.source, self.setting)
            for title in titles
            for task, value in zip(self.tasks, self.rows[title], strict=True)
        )


def _rows(text: str) -> dict[str, tuple[float, ...]]:
    rows = {}
    for line in text.strip().splitlines():
        title, values = line.split("|")
        rows[title.strip()] = tuple(float(value) for value in values.split())
    return rows


# "RoFormer" in both tables below is said to continue from RoBERTa weights, and the
# published CLUE scripts cut text into characters: that is the character model, not
# the word model, which continues from WoBERT.
GAU_ALPHA_POST = ScoreTable(
    title="CLUE validation sets, base models, same scripts",
    split="dev",
    source="https://kexue.fm/archives/9052",
    setting="fine-tuned by the author of GAU-α; RoFormerV2* is an unreleased model",
    tasks=CLUE_TASKS,
    rows=_rows(
        """
        BERT        | 60.06 56.80 72.41 79.56 73.93 78.62 83.93 56.17 60.54 85.69 79.45
        RoBERTa     | 60.64 58.06 74.05 81.24 76.00 87.50 84.50 56.54 67.66 86.71 79.47
        RoFormer    | 60.91 57.54 73.52 80.92 76.07 86.84 84.63 56.26 67.24 86.57 79.72
        RoFormerV2* | 60.87 56.54 72.75 80.34 75.36 80.92 84.67 57.91 64.62 85.09 81.08
        GAU-α       | 61.41 57.76 74.17 81.82 75.86 79.93 85.67 58.09 68.24 87.91 80.01
        """
    ),
    presets={
        "BERT": "bert-base-chinese",
        "RoBERTa": "roberta-wwm-ext-chinese",
        "RoFormer": "roformer-char-base",
        "GAU-α": "gau-alpha",
    },
)

# The numbers of cmrc2018 are not comparable with the table above: that is a validation
# set, this is the hidden test set of the leaderboard.
ROFORMER_V2_POST = ScoreTable(
    title="CLUE leaderboard",
    split="leaderboard",
    source="https://kexue.fm/archives/8998",
    setting="submitted by the authors of RoFormerV2",
    tasks=CLUE_TASKS,
    rows=_rows(
        """
    BERT base        | 61.19 56.29 73.37 79.37 71.73 73.85 84.03 72.10 61.33 85.13 78.68
    RoBERTa base     | 61.12 58.35 73.61 80.81 74.27 82.28 85.33 75.40 67.11 86.04 79.38
    RoBERTa large    | 60.58 55.51 75.14 82.16 75.47 81.97 85.07 78.85 76.74 88.65 80.19
    RoFormer base    | 61.08 56.74 73.82 80.97 73.10 80.57 84.93 73.50 66.29 86.30 79.69
    RoFormerV2 small | 60.46 51.46 72.39 76.93 67.70 69.11 83.00 71.80 64.49 77.35 78.20
    RoFormerV2 base  | 62.50 58.74 75.63 80.62 74.23 82.71 84.17 77.00 75.57 85.95 79.87
    RoFormerV2 large | 62.65 58.06 76.95 81.20 75.83 88.03 84.97 80.50 78.34 87.68 80.17
        """
    ),
    presets={
        "BERT base": "bert-base-chinese",
        "RoBERTa base": "roberta-wwm-ext-chinese",
        "RoFormer base": "roformer-char-base",
        "RoFormerV2 small": "roformer-v2-small",
        "RoFormerV2 base": "roformer-v2-base",
        "RoFormerV2 large": "roformer-v2-large",
    },
)

GAU_ALPHA_PYTORCH = ScoreTable(
    title="CLUE validation sets, PyTorch port of GAU-α",
    split="dev",
    source="https://github.com/JunnYu/GAU-alpha-pytorch",
    setting="an independent run on converted weights, Adafactor",
    tasks=CLUE_TASKS[:7],
    rows=_rows("GAU-α | 61.18 57.52 73.42 80.91 75.69 80.59 85.5"),
    presets={"GAU-α": "gau-alpha"},
)

TABLES = (GAU_ALPHA_POST, ROFORMER_V2_POST, GAU_ALPHA_PYTORCH)


def published_scores(name: str) -> tuple[Score, ...]:
    """Returns every published score of the preset `name`.

    Args:
        name: a preset's name.

    Returns:
        A tuple of `Score`, in the order of the tables; empty when none was published.

    Example:

    >>> [s.value for s in published_scores("gau-alpha") if s.task == "cmnli"]
    [81.82, 80.91]
    """
    return tuple(score for table in TABLES for score in table.scores_of(name))
