"""Question answering: windows, spans, answers, training, saving."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import QUICK_JIT, backbone, tokenizer

from bert4keras3.tasks.question_answering import SCORERS, QuestionAnswering, best_span
from bert4keras3.tasks.question_answering_preprocessor import (
    NOT_FOUND,
    QuestionAnsweringPreprocessor,
    Window,
    find_answer,
)

CHARACTERS = "几个三四五人山水天地"
PASSAGE = "天地山水三个人"


def preprocessor(length=12, overlap=2, **arguments):
    return QuestionAnsweringPreprocessor(
        tokenizer(CHARACTERS), length, overlap, **arguments
    )


def task(scorer="start_end", **arguments):
    made = preprocessor(**arguments)
    return QuestionAnswering(backbone(made.tokenizer.vocabulary_size), made, scorer)


def test_windows_overlap_and_cover_the_passage():
    made = preprocessor(length=9, overlap=2)
    long = PASSAGE * 3
    inputs, windows = made.windows(["几个", "几"], [long, PASSAGE[:3]])
    spans = [[span for span in w.offsets] for w in windows if w.record == 0]
    assert all(len(each) == 4 for each in spans[:-1])
    for left, right in zip(spans, spans[1:], strict=False):
        assert left[-2:] == right[:2]
    assert {span for each in spans for span in each} == {
        (at, at + 1) for at in range(len(long))
    }
    assert windows[-1].record == 1 and len(windows[-1].offsets) == 3
    # The arrays of a short passage are those of the tokenizer's pair.
    pair = made.tokenizer(["几"], [PASSAGE[:3]], length=9)
    for name, array in pair.items():
        assert np.array_equal(inputs[name][-1], array[0])
    assert inputs["span_mask"][-1].tolist() == [1, 0, 0, 1, 1, 1, 0, 0, 0]


def test_labels_are_the_span_of_the_answer_or_cls():
    made = preprocessor(length=9, overlap=2)
    answer = {"text": "三个", "answer_start": 4}
    inputs, labels, weights = made(["几个"], [PASSAGE], [[answer]])
    inputs_again, windows = made.windows(["几个"], [PASSAGE])
    assert [w.offsets[0][0] for w in windows] == [0, 2, 4][: len(windows)]
    for label, window in zip(labels, windows, strict=True):
        start, end = divmod(int(label), 9)
        if window.offsets[0][0] <= 4 and window.offsets[-1][1] >= 6:
            assert window.offsets[start - window.first] == (4, 5)
            assert window.offsets[end - window.first] == (5, 6)
        else:
            assert label == 0
    assert (labels != 0).any() and (labels == 0).any()
    assert weights.tolist() == [1.0] * len(windows)
    assert np.array_equal(inputs["token_ids"], inputs_again["token_ids"])


@pytest.mark.parametrize(
    "answers, expected",
    [
        ({"text": "山水", "answer_start": 2}, (2, 4)),
        ([{"text": "山", "answer_start": 9}], (9, 10)),
        # Not at its place: the nearest one counts.
        ([{"text": "山", "answer_start": 8}], (9, 10)),
        ([{"text": "山", "answer_start": -1}], (2, 3)),
        ([{"text": "人人"}, {"text": "人", "answer_start": 0}], (6, 7)),
        ([{"text": "五"}], NOT_FOUND),
        ([], None),
        (None, None),
        ([{"text": ""}], None),
    ],
)
def test_answers_are_found_by_their_text(answers, expected):
    assert find_answer(PASSAGE * 2, answers) == expected


def test_an_answer_that_is_nowhere_has_no_weight():
    answers = [{"text": "五", "answer_start": 0}, None]
    _, labels, weights = preprocessor()(["几", "几"], [PASSAGE] * 2, answers)
    assert labels.tolist() == [0, 0] and weights.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_only_the_passage_and_cls_can_answer(scorer):
    assert SCORERS
    model = task(scorer)
    inputs = model.preprocessor(["几个"], [PASSAGE], inputs_only=True)
    logits = to_numpy(model(inputs)).reshape(12, 12)
    allowed = np.flatnonzero(inputs["span_mask"][0])
    open_ = np.zeros((12, 12), bool)
    open_[np.ix_(allowed, allowed)] = True
    if scorer == "pointer":
        open_ &= np.triu(open_)
    assert np.array_equal(logits > -1e8, open_)
    # What stands in the padding changes nothing.
    dirty = {**inputs, "token_ids": inputs["token_ids"].copy()}
    dirty["token_ids"][inputs["padding_mask"] == 0] = 7
    np.testing.assert_allclose(to_numpy(model(dirty))[0], logits.ravel(), atol=1e-5)


def test_start_end_is_two_softmaxes():
    """Cross-entropy over all spans equals that of the starts plus that of the ends."""
    model = task("start_end")
    inputs = model.preprocessor(["几个"], [PASSAGE], inputs_only=True)
    logits = to_numpy(model(inputs)).reshape(12, 12)
    allowed = np.flatnonzero(inputs["span_mask"][0])
    logits = logits[np.ix_(allowed, allowed)].astype("float64")

    def log_softmax(x):
        return x - np.log(np.exp(x).sum())

    both = log_softmax(logits)
    starts = np.log(np.exp(both).sum(1))
    ends = np.log(np.exp(both).sum(0))
    np.testing.assert_allclose(starts[:, None] + ends[None], both, atol=1e-5)


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_learns_to_answer_in_windows(scorer):
    rng = np.random.default_rng(1)
    model = task(scorer, length=10)
    passages = ["".join(rng.permutation(list("天地山水人四五三"))) for _ in range(24)]
    answers = [{"text": "三", "answer_start": p.index("三")} for p in passages]
    questions = ["几个"] * len(passages)
    model.compile(keras.optimizers.Adam(2e-2), jit_compile=QUICK_JIT)
    history = model.fit(
        (questions, passages), answers, batch_size=48, epochs=60, verbose=0
    )
    assert history.history["loss"][-1] < 0.3 < history.history["loss"][0]
    found = model.answer(questions, passages)
    right = [each["text"] == "三" for each in found]
    assert np.mean(right) > 0.9
    for each, passage in zip(found, passages, strict=True):
        assert each["text"] == passage[each["start"] : each["end"]]
    assert model.answer("几个", passages[0])["text"] == found[0]["text"]
    assert model.answer("几个", "") == {"text": "", "start": 0, "end": 0, "score": 0.0}


def test_best_span_is_short_and_forward():
    logits = np.full((6, 6), -5.0)
    logits[4, 2], logits[2, 5], logits[2, 3], logits[0, 0] = 9, 8, 7, 10
    window = Window(0, 2, [(0, 1), (1, 2), (2, 3), (3, 5)])
    best = best_span(logits.ravel(), window, max_answer_length=9)
    assert (best["start"], best["end"]) == (0, 5)
    best = best_span(logits.ravel(), window, max_answer_length=3)
    assert (best["start"], best["end"]) == (0, 2)
    powers = np.exp(logits)
    assert best["score"] == pytest.approx(powers[2, 3] / powers.sum())


def test_saved_whole(tmp_path):
    model = task("pointer")
    model.compile(jit_compile=QUICK_JIT)
    expected = model.answer("几个", PASSAGE)
    model.save(tmp_path / "task.keras")
    given = keras.saving.load_model(tmp_path / "task.keras").answer("几个", PASSAGE)
    assert given["score"] == pytest.approx(expected.pop("score"), abs=1e-6)
    assert expected.items() <= given.items()


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: preprocessor()(["几"]), "questions and passages"),
        (lambda: task().fit(["几"], [None]), "questions and passages"),
        (
            lambda: preprocessor(length=8, overlap=4)(["几个"], [PASSAGE]),
            "no more than",
        ),
        (lambda: preprocessor(length=(8, 16)), "one sequence_length"),
        (lambda: preprocessor(overlap=-1), "at least 0"),
        (lambda: task("pointr"), "Did you mean 'pointer'"),
    ],
)
def test_bad_arguments_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
