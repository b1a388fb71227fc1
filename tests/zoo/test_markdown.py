"""The zoo's table: one row per preset, means only of whole tables, each with a link."""

import pytest

from zoo.markdown import CHINESE, ENGLISH, mean_scores, parameter_text, zoo_table
from zoo.presets import PRESETS


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("wording", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_one_row_per_preset(wording):
    lines = zoo_table(PRESETS.values(), wording).splitlines()
    assert len(lines) == len(PRESETS) + 2 and len(PRESETS) >= 16
    assert cells(lines[0]) == list(wording.headings)
    assert {len(cells(line)) for line in lines} == {5}
    for line, name in zip(lines[2:], PRESETS, strict=True):
        assert f"`{name}`" in cells(line)[0]


def test_mean_is_of_the_eleven_tasks_of_one_source():
    # The published row of GAU-α adds up to 810.87.
    [(mean, split, source)] = mean_scores(PRESETS["gau-alpha"])
    assert mean == pytest.approx(810.87 / 11)
    assert split == "dev" and source == "https://kexue.fm/archives/9052"


def test_a_source_with_fewer_tasks_has_no_mean():
    sources = {score.source for score in PRESETS["gau-alpha"].scores}
    assert len(sources) == 2  # one of the two covers only seven tasks
    assert len(mean_scores(PRESETS["gau-alpha"])) == 1


def test_no_scores_is_a_dash():
    row = zoo_table([PRESETS["roformer-gpt"]]).splitlines()[2]
    assert cells(row)[-1] == "–"


def test_every_mean_has_a_source():
    linked = [name for name, preset in PRESETS.items() if mean_scores(preset)]
    assert linked
    for name in linked:
        row = cells(zoo_table([PRESETS[name]]).splitlines()[2])[-1]
        assert row.count("](https://") == len(mean_scores(PRESETS[name]))


def test_parameter_text():
    assert parameter_text(96_517_632) == "96.5 M"
    assert parameter_text(314_300_000) == "314.3 M"
