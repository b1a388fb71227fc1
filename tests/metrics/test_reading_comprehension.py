"""CMRC 2018's scores, on results of the official script."""

import pytest

from bert4keras3.metrics import (
    cmrc2018_exact_match,
    cmrc2018_f1,
    cmrc2018_scores,
)

# What the official functions give, run with NLTK 3's word tokenizer.
OFFICIAL = [
    (["1998年5月", "1998年"], "于1998年", 0.8, 0),
    (["《红楼梦》"], "红楼梦。", 1.0, 1),
    (["3,000米"], "3,000 米", 1.0, 0),
    (["can't stop"], "cannot stop", 0.333333333333, 0),
    (['"abc"社'], "abc社", 0.333333333333, 0),
    (["北京abc上海"], "北京上海", 0.444444444444, 0),
    (["北京"], "上海", 0.0, 0),
    (["U.S. 陆军"], "u.s.陆军", 1.0, 0),
    (["ac-130"], "ac130", 1.0, 1),
    (["a……b"], "a…b", 0.0, 0),
    (["iPhone 6s (金色)"], "iphone 6s 金色", 0.4, 0),
    (["约3.5%。"], "3.5%", 0.8, 0),
    (["rock'n'roll,pop"], "rock'n'roll, pop", 1.0, 0),
]


@pytest.mark.parametrize(("answers", "prediction", "f1", "exact"), OFFICIAL)
def test_official_results(answers, prediction, f1, exact):
    assert cmrc2018_f1(answers, prediction) == pytest.approx(f1, abs=1e-11)
    assert cmrc2018_exact_match(answers, prediction) == exact


def test_means_over_all_questions():
    references = {str(i): case[0] for i, case in enumerate(OFFICIAL)}
    predictions = {str(i): case[1] for i, case in enumerate(OFFICIAL) if i != 1}
    scores = cmrc2018_scores(references, {**predictions, "other": "x"})
    total = len(OFFICIAL)
    expected = 100 * (sum(case[2] for case in OFFICIAL) - 1) / total
    assert scores["f1"] == pytest.approx(expected, abs=1e-9)
    assert scores["exact_match"] == pytest.approx(100 / total)
    assert scores["average"] == (scores["f1"] + scores["exact_match"]) / 2
    assert (scores["total"], scores["skipped"]) == (total, 1)


def test_an_empty_prediction():
    assert cmrc2018_f1(["北京"], "") == 0.0
    assert cmrc2018_exact_match(["北京"], "，") == 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="one or more right answers"):
        cmrc2018_f1("北京", "北京")
    with pytest.raises(ValueError, match="one or more right answers"):
        cmrc2018_exact_match([], "北京")
    with pytest.raises(ValueError, match="maps ids to right answers"):
        cmrc2018_scores({}, {})
