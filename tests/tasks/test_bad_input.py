"""Input that is wrong, unusual or at a limit: errors that teach, and exact offsets."""

import keras
import numpy as np
import pytest
from small_tasks import EXAMPLES, QUICK_JIT, TEXTS, small_task

from bert4keras3.tasks.entity_tags import check_span

QUESTIONS, PASSAGES = ["几个", "几个"], TEXTS[:2]
ANSWER = {"text": "人", "answer_start": 0}


def fitted_with(name, x, y, **arguments):
    task = small_task(name)
    task.compile(loss=EXAMPLES[name].loss, jit_compile=False)
    return task.fit(x, y, verbose=0, **arguments)


# --- labels: what was wrong, what was expected, how to mend it ----------------------

TOLD = [
    ("text_classifier", ["near", "nar"], "'nar' at row 1.*Did you mean 'near'.*Known"),
    ("text_classifier", [0, 2], r"Label 2 at row 1 is not in \[0, 2\).*more classes"),
    ("text_classifier", [0, None], "string or an integer.*None.*NoneType at row 1"),
    ("text_classifier", ["near"], "2 texts but 1 labels"),
    ("token_classifier", [[], list("OOOOX")], "'X' at row 1, character 4.*Known: O"),
    ("token_classifier", [[], list("OOO")], "5 characters but 3 tags.*天地在水人.*one"),
    ("token_classifier", [[], [(4, 6, "who")]], r"\(4, 6\).*5 characters.*天地在水人"),
    ("token_classifier", [[], None], "a tag for each character.*None at row 1"),
    ("token_classifier", [[]], "2 texts but 1 labels"),
    ("entity_recognizer", [[], [(4, 6, "who")]], r"\(4, 6\).*5 characters.*half-open"),
    ("entity_recognizer", [[], [(1, 1, "who")]], r"\(1, 1\) does not lie"),
    ("entity_recognizer", [[], [("0", 1, "who")]], r"\('0', 1\).*two integers"),
    ("entity_recognizer", [[], [(0.5, 1, "who")]], r"\(0.5, 1\).*two integers"),
    ("entity_recognizer", [[], [(0, 1, "whom")]], "row 1, entity 0.*mean 'who'"),
    ("entity_recognizer", [[], (0, 1, "who")], r"list of entities.*at row 1"),
    ("relation_extractor", [[], [((0, 1), "on", (2, 3))]], "row 1, relation 0.*Known"),
    ("relation_extractor", [[], [((0, 6), "in", (2, 3))]], r"\(0, 6\).*天地在水人"),
    ("relation_extractor", [[], [("天", "in", "水")]], r"\(start, end\), predicate"),
    ("relation_extractor", [[], [((0, 1, 2), "in", (2, 3))]], "Received.*at row 1"),
]


@pytest.mark.parametrize("name, labels, told", TOLD)
def test_bad_labels_say_what_is_wrong(name, labels, told):
    with pytest.raises((ValueError, TypeError), match=f"(?s){told}"):
        fitted_with(name, PASSAGES, labels)


@pytest.mark.parametrize(
    "answers, told",
    [
        (["人", "天"], "dict {\"text\": string.*Received '人'"),
        ([ANSWER, {"answer": "天"}], "Received {'answer': '天'}"),
        ([ANSWER, {"text": "天", "answer_start": "0"}], '"answer_start": integer'),
        (
            [ANSWER, {"text": ["天"], "answer_start": [0]}],
            r"Received {'text': \['天'\]",
        ),
        ([ANSWER], "2 passages but answers to 1.*None"),
    ],
)
def test_bad_answers_say_what_is_wrong(answers, told):
    with pytest.raises(ValueError, match=told):
        fitted_with("question_answering", (QUESTIONS, PASSAGES), answers)


@pytest.mark.parametrize(
    "choices, labels, told",
    [
        ([["人", "天"]] * 2, ["人", "天"], "choice is '人'.*numbers 0 to 1.*'天'"),
        ([["人", "天"]] * 2, [0.0, 1.0], "choice is 0.0.*numbers 0 to 1"),
        ([["人", "天"]] * 2, [0, -1], "choice is -1, but there are 2"),
        ([["人", "天"], "人天"], [0, 1], "two choices or more.*'人天'"),
        ([["人", "天"], []], [0, 1], r"two choices or more.*\[\]"),
        ([["人", "天"]], [0, 1], "2 texts but 1 lists of choices"),
    ],
)
def test_bad_choices_say_what_is_wrong(choices, labels, told):
    with pytest.raises(ValueError, match=told):
        # TensorFlow would wrap what is raised while it reads the data.
        small_task("multiple_choice").preprocessor(PASSAGES, choices, labels)


def test_choices_are_checked_before_training():
    with pytest.raises(ValueError, match="choice is '人'"):
        fitted_with("multiple_choice", (PASSAGES, [["人", "天"]] * 2), [0, "人"])


# --- texts ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_nothing_and_no_texts_are_refused(name):
    task = small_task(name)
    task.compile(loss=EXAMPLES[name].loss)
    paired = isinstance(EXAMPLES[name].x, tuple)

    def x(column):
        return (column, column) if paired else column

    for act in (lambda x: task.fit(x, []), task.evaluate, task.predict):
        with pytest.raises(ValueError, match="There are no texts.*empty.*one text"):
            act(x([]))
        for wrong in ([1, 2], [b"a"], [None]):
            with pytest.raises(TypeError, match="Texts are strings. Received a list"):
                act(x(wrong))
    pairs = EXAMPLES[name].x[1][:2] if paired else None
    with pytest.raises(TypeError, match=r"must be a str, not NoneType: a missing val"):
        task.preprocessor(["天", None], pairs, inputs_only=True)


@pytest.mark.parametrize(
    "name, ask",
    [
        ("text_classifier", lambda task, x: task.classify(x)),
        ("multiple_choice", lambda task, x: task.choose(x, x)),
        ("question_answering", lambda task, x: task.answer(x, x)),
        ("token_classifier", lambda task, x: task.tag(x)),
        ("entity_recognizer", lambda task, x: task.recognize(x)),
        ("relation_extractor", lambda task, x: task.extract(x)),
        ("text_embedder", lambda task, x: task.embed(x)),
        ("masked_lm", lambda task, x: task.fill(x)),
    ],
)
def test_no_text_has_no_answer_and_a_number_is_no_text(name, ask):
    task = small_task(name)
    assert len(ask(task, [])) == 0
    for wrong in (3, None, ["天", 3]):
        with pytest.raises(TypeError, match="must be"):
            ask(task, wrong)


def test_unequal_columns_are_told():
    task = small_task("question_answering")
    with pytest.raises(ValueError, match="2 questions but 1 passages"):
        task.answer(QUESTIONS, PASSAGES[:1])
    with pytest.raises(ValueError, match="2 texts but 1 pairs"):
        small_task("multiple_choice").choose(PASSAGES, [["人", "天"]])


# --- what is unusual, but right -------------------------------------------------------

ODD = "人\u2028在👩‍👧山\U0001f600水\u00a0天"


@pytest.mark.parametrize("word", ["人", "在", "山", "水", "天"])
def test_offsets_count_line_separators_and_emoji_as_characters(word):
    start = ODD.index(word)
    end = start + 1
    marked = [(start, end, 0)]
    task = small_task("entity_recognizer", length=16)
    inputs, labels = task.preprocessor([ODD], labels=[(2, marked)])
    first, last = divmod(int(labels[0, 0, 0]), 16)
    assert first == last
    token = task.tokenizer.id_to_token(int(inputs["token_ids"][0, first]))
    assert token == word
    # The same word answers a question, by its place and by its text.
    reader = small_task("question_answering", length=20)
    for said in (start, 0):
        answer = {"text": word, "answer_start": said}
        inputs, spans, _ = reader.preprocessor(["几个"], [ODD], [answer])
        first, last = divmod(int(spans[0]), 20)
        assert first == last
        assert reader.tokenizer.id_to_token(int(inputs["token_ids"][0, first])) == word
    # Tags and answers have a place for each character.
    tagger = small_task("token_classifier", length=16)
    tags = [word == each for each in ODD]
    inputs, given = tagger.preprocessor([ODD], labels=[np.array(tags, int)])
    token_ids = inputs["token_ids"][0][given[0] == 1]
    assert [tagger.tokenizer.id_to_token(int(i)) for i in token_ids] == [word]


def test_answers_quote_the_text_that_was_given():
    recognizer = small_task("entity_recognizer", length=16)
    found = recognizer.recognize(ODD, threshold=-1e8)
    assert found and all(e["text"] == ODD[e["start"] : e["end"]] for e in found)
    assert {"人", "天"} <= {e["text"] for e in found}
    assert len(small_task("token_classifier", length=16).tag(ODD)) == len(ODD)


def test_a_class_without_an_example_is_learned_to_be_rare():
    task = small_task("text_classifier")
    task.compile(keras.optimizers.Adam(3e-2), jit_compile=QUICK_JIT)
    history = task.fit(TEXTS, ["far"] * 4, epochs=10, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert {best[0][0] for best in task.classify(TEXTS)} == {"far"}


def test_entities_beyond_the_limit_are_left_out():
    task = small_task("entity_recognizer", length=5)  # three characters
    entities = [(0, 1, 0), (2, 3, 0), (3, 4, 0), (2, 4, 1)]
    _, labels = task.preprocessor(["天地在水人"], labels=[(2, entities)])
    assert labels[0, 0].tolist()[:3] == [1 * 5 + 1, 3 * 5 + 3, -1]
    assert (labels[0, 1] == -1).all()
    tagger = small_task("token_classifier", length=5)
    tags = tagger.tag("天地在水人")
    assert len(tags) == 5 and tags[3:] == ["O", "O"]


def test_spans_may_be_numpy_integers():
    check_span(np.int64(0), np.int32(2), 2)
    with pytest.raises(ValueError, match="lie in a text of 2 characters. A span"):
        check_span(0, 3, 2)


def test_labels_of_evaluation_are_checked_too():
    task = small_task("text_classifier")
    task.compile()
    with pytest.raises(ValueError, match="'new' at row 3.*Known: near, far"):
        task.evaluate(TEXTS, ["near", "far", "near", "new"], verbose=0)
    with pytest.raises(ValueError, match="'new' at row 0"):
        task.fit(TEXTS, [0, 1, 0, 1], validation_data=(TEXTS, ["new"] * 4), verbose=0)
