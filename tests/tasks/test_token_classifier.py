"""TokenClassifier: tags and characters, losses, decoders, answers, saving."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import QUICK_JIT, backbone, tokenizer

from bert4keras3.tasks.entity_tags import (
    bio_names,
    entities_of_tags,
    tags_of_entities,
)
from bert4keras3.tasks.token_classifier import DECODERS, TokenClassifier
from bert4keras3.tasks.token_classifier_preprocessor import TokenClassifierPreprocessor

TEXTS = ["天地abc人", "人天abc", "地 人天地", "abc地天人"]
NAMES = bio_names(["earth", "letters"])


def entities(text):
    found = [(at, at + 1, "earth") for at, c in enumerate(text) if c == "地"]
    if "abc" in text:
        found.append((text.index("abc"), text.index("abc") + 3, "letters"))
    return sorted(found)


def task(decoder="softmax", **arguments):
    words = tokenizer("天地人")
    arguments = {"label_names": NAMES, **arguments}
    return TokenClassifier(
        backbone(words.vocabulary_size),
        TokenClassifierPreprocessor(words, 10),
        decoder=decoder,
        **arguments,
    )


def test_a_token_has_the_tag_of_its_first_character():
    made = task()
    inputs, tags = made.preprocessor(["天 abc"], labels=[[1, 9, 2, 3, 4]])
    assert made.tokenizer.tokenize("天 abc") == ["[CLS]", "天", "ab", "##c", "[SEP]"]
    assert tags[0].tolist() == [-1, 1, 2, 4, -1] + [-1] * 5
    assert inputs["token_mask"][0].tolist() == [0, 1, 1, 1, 0] + [0] * 5


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_learns_entities_and_finds_them(decoder, tmp_path):
    assert len(DECODERS) == 3
    model = task(decoder)
    model.compile(keras.optimizers.Adam(3e-2), jit_compile=QUICK_JIT)
    labels = [entities(text) for text in TEXTS]
    history = model.fit(TEXTS, labels, batch_size=4, epochs=60, verbose=0)
    assert history.history["loss"][-1] < 0.3 * history.history["loss"][0]
    assert history.history["tag_accuracy"][-1] == 1.0
    assert model.recognize(TEXTS, batch_size=3) == labels
    assert model.tag("天地abc") == ["O", "B-earth", "B-letters", *["I-letters"] * 2]
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    assert loaded.recognize(TEXTS) == labels
    given = loaded.evaluate(TEXTS, labels, verbose=0)
    np.testing.assert_allclose(given, model.evaluate(TEXTS, labels, verbose=0))


def test_tags_of_characters_by_name_and_number():
    model = task(label_names=["n", "v"])
    model.compile(jit_compile=QUICK_JIT)
    batches = model._text_batches(TEXTS[:2], [list("nnvvvn"), [0, 1, 0, 0, 0]], 2)
    tags = batches[0][1]
    assert tags[0, :7].tolist() == [-1, 0, 0, 1, 1, 0, -1]
    assert tags[1, :6].tolist() == [-1, 0, 1, 0, 0, -1]
    assert set(model.tag(TEXTS[2])) <= {"n", "v", None}
    assert model.tag(TEXTS[2])[1] is None  # a space is no token


def test_the_loss_leaves_out_what_has_no_tag():
    model = task()
    logits = np.random.default_rng(0).normal(size=(2, 4, 5)).astype("float32")
    labels = np.array([[1, 2, -1, -1], [0, -1, -1, 4]])
    given = float(to_numpy(model.decoder.loss(labels, logits)))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rows, places = np.nonzero(labels >= 0)
    expected = -log_p[rows, places, labels[rows, places]].mean()
    assert given == pytest.approx(expected, abs=1e-5)


def test_entities_and_tags():
    spans = [(0, 2, "a"), (2, 3, "a"), (4, 5, "b")]
    tags = tags_of_entities(6, spans)
    assert tags == ["B-a", "I-a", "B-a", "O", "B-b", "O"]
    assert entities_of_tags(tags) == spans
    assert entities_of_tags(["I-a", "I-b", "I-b", "B-b"]) == [
        (0, 1, "a"),
        (1, 3, "b"),
        (3, 4, "b"),
    ]
    assert entities_of_tags([]) == []


@pytest.mark.parametrize(
    "labels, match",
    [
        ([[(0, 9, "earth")]], r"\(0, 9\) does not lie in a text of 6 characters"),
        ([[(2, 2, "earth")]], "does not lie"),
        ([[(0, 2, "earth"), (1, 3, "letters")]], "entity_recognizer"),
        ([[(0, 2, "erth")]], "Did you mean 'B-earth'"),
        ([["O"] * 5], "6 characters but 5 tags"),
        ([["O"] * 5 + ["X"]], "'X' at row 0, character 5"),
    ],
)
def test_bad_labels_are_refused(labels, match):
    model = task()
    model.compile()
    with pytest.raises(ValueError, match=match):
        model.fit(TEXTS[:1], labels, verbose=0)


def test_pairs_are_refused():
    with pytest.raises(ValueError, match="single texts"):
        task().predict((TEXTS, TEXTS))
