"""What the scripts of `examples/claims` share: tasks, texts, tables."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

CLAIMS = Path(__file__).parents[2] / "examples" / "claims"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(CLAIMS))
    yield
    for name in ("chomsky_tasks", "language_model", "markov_text", "report"):
        sys.modules.pop(name, None)


def test_tasks_of_the_chomsky_hierarchy():
    from chomsky_tasks import ANSWER, FIRST, TASKS, batch

    answers = {
        "even_pairs": ([0, 1, 1, 0], [1]),
        "reverse_string": ([0, 1, 1], [1, 1, 0]),
        "odds_first": ([0, 1, 1, 0, 1], [0, 1, 1, 1, 0]),
        "bucket_sort": ([3, 0, 4, 0], [0, 0, 3, 4]),
    }
    for name, (string, answer) in answers.items():
        assert list(TASKS[name][0](np.array(string))) == answer
    rng = np.random.default_rng(0)
    token_ids, targets, weights = batch("reverse_string", [2, 3], rng)
    assert token_ids.shape == (2, 6)
    for row, length in enumerate((2, 3)):
        string = token_ids[row, :length] - FIRST
        place = slice(length, 2 * length)
        np.testing.assert_array_equal(targets[row, place], string[::-1])
        assert set(token_ids[row, place]) == {ANSWER}
        assert weights[row].sum() == length and weights[row, place].all()


def test_rows_of_text_for_language_models(tmp_path):
    from language_model import LENGTHS, ChineseText

    rng = np.random.default_rng(0)
    text = "".join(chr(0x4E00 + at) for at in rng.integers(0, 50, 20000))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    text = ChineseText([tmp_path], vocabulary_size=40)
    assert text.vocabulary_size == 40 and text.train.max() == 39
    rows = text.training_rows(6, 64, rng)
    assert rows.shape == (6, 65)
    # Every second row says again what it said before.
    for row, repeats in zip(rows, [True, False] * 3, strict=True):
        found = any((row[p:] == row[:-p]).all() for p in range(8, 33))
        assert found == repeats
    # The last characters are the same at every length, and are repeated or not.
    ends = {length: text.test_rows(length, False) for length in LENGTHS}
    for length in LENGTHS:
        assert ends[length].shape == (128, length + 1)
        np.testing.assert_array_equal(ends[length][:, -65:], ends[64])
        twice = text.test_rows(length, True)
        half = length // 2
        np.testing.assert_array_equal(twice[:, -half:], ends[length][:, -half:])
        np.testing.assert_array_equal(twice[:, : half + 1], twice[:, half:])


def test_markov_text_follows_its_table():
    from markov_text import FIRST_TOKEN, MASK, MarkovText

    text = MarkovText(num_tokens=8)
    token_ids, targets, weights = text.masked(16, 32)
    np.testing.assert_array_equal(token_ids == MASK, weights == 1)
    np.testing.assert_array_equal(token_ids[weights == 0], targets[weights == 0])
    assert 0.1 < weights.mean() < 0.25 and weights.any(1).all()
    rows = targets - FIRST_TOKEN
    for before, after in zip(rows[:, :-1].ravel(), rows[:, 1:].ravel(), strict=True):
        assert after in text.successors[before]


def test_tables_show_the_spread(capsys):
    import report

    values = np.array([[0.5, 1.0], [0.7, 1.0]])
    report.print_table(["system", 64, 128], {"one": values}, "{:.2f}")
    assert "| one | 0.60 (0.50 - 0.70) | 1.00 |" in capsys.readouterr().out


def test_figures_and_plot_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    import report

    options = SimpleNamespace(output=tmp_path)
    curves = {"one": np.array([[0.5, 1.0], [0.7, 1.0]])}
    report.save(options, "figure", "length", "score", (64, 128), curves, log_x=True)
    assert '"one": [[0.5, 1.0], [0.7, 1.0]]' in (tmp_path / "figure.json").read_text()
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_text_must_be_named(capsys):
    import report

    with pytest.raises(SystemExit):
        report.parse_arguments("About.", [], data=True)
    assert "give --data, or --smoke" in capsys.readouterr().err
    assert report.parse_arguments("About.", ["--smoke"], data=True).seeds == 1
