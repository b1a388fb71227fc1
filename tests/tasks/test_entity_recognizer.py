"""EntityRecognizer: spans, losses, training, saving."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import QUICK_JIT, backbone, tokenizer

from bert4keras3.tasks.entity_recognizer import (
    POINTERS,
    EntityRecognizer,
    span_loss,
)
from bert4keras3.tasks.entity_recognizer_preprocessor import (
    EntityRecognizerPreprocessor,
)
from bert4keras3.tasks.token_offsets import token_span

CHARACTERS = "山水在天地人"
# "山水" is nested in "山水天" where that stands.
TEXTS = ["人在山水天", "天地在山水", "abc在山水天地", "地天人在天"]
TYPES = ["place", "letters", "whole"]


def entities(text):
    found = []
    for kind, word in (("place", "山水"), ("letters", "abc"), ("whole", "山水天")):
        if word in text:
            found.append((text.index(word), text.index(word) + len(word), kind))
    return sorted(found)


def recognizer(pointer="efficient", **arguments):
    words = tokenizer(CHARACTERS)
    return EntityRecognizer(
        backbone(words.vocabulary_size),
        EntityRecognizerPreprocessor(words, 10, **arguments),
        label_names=TYPES,
        pointer=pointer,
        head_dim=16,
    )


@pytest.mark.parametrize("pointer", sorted(POINTERS))
def test_learns_nested_entities_and_finds_them(pointer, tmp_path):
    assert len(POINTERS) == 2
    model = recognizer(pointer)
    model.compile(keras.optimizers.Adam(2e-2), jit_compile=QUICK_JIT)
    labels = [entities(text) for text in TEXTS]
    history = model.fit(TEXTS, labels, batch_size=4, epochs=60, verbose=0)
    assert history.history["loss"][-1] < 0.1 < history.history["loss"][0]
    found = model.recognize(TEXTS, batch_size=3)
    spans = [sorted((e["start"], e["end"], e["type"]) for e in row) for row in found]
    assert spans == labels
    for text, row in zip(TEXTS, found, strict=True):
        assert all(e["text"] == text[e["start"] : e["end"]] for e in row)
    assert model.recognize(TEXTS[3]) == []
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    np.testing.assert_allclose(
        loaded.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0), atol=1e-5
    )


def test_indices_of_entities():
    made = recognizer().preprocessor
    kinds = {"place": 0, "letters": 1, "whole": 2}
    marked = [(s, e, kinds[k]) for s, e, k in entities(TEXTS[2])]
    inputs, labels = made([TEXTS[2]], labels=[(3, marked)])
    # [CLS] ab ##c 在 山 水 天 地 [SEP]
    assert inputs["token_mask"][0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    firsts = labels[0, :, 0].tolist()
    assert firsts == [4 * 10 + 5, 1 * 10 + 2, 4 * 10 + 6]
    assert (labels[0, :, 1:] == -1).all() and labels.dtype == np.int32


def test_spans_are_widened_to_tokens_and_left_out_when_cut_off():
    offsets = [None, (0, 1), (1, 4), None]
    assert token_span(offsets, 0, 4) == (1, 2)
    assert token_span(offsets, 1, 4) == (2, 2)
    assert token_span(offsets, 2, 3) == (2, 2)  # inside a token
    assert token_span(offsets, 1, 5) is None
    assert token_span(offsets, 6, 7) is None


def test_the_loss_against_the_formula():
    logits = np.random.default_rng(3).normal(size=(2, 2, 9)).astype("float32")
    labels = np.array([[[4, 0], [-1, -1]], [[8, -1], [1, 1]]])
    expected = np.zeros((2, 2))
    for row in range(2):
        for kind in range(2):
            right = {label for label in labels[row, kind] if label >= 0}
            wrong = set(range(9)) - right
            each = logits[row, kind].astype("float64")
            expected[row, kind] = np.log1p(sum(np.exp(each[i]) for i in wrong))
            expected[row, kind] += np.log1p(sum(np.exp(-each[i]) for i in right))
    given = to_numpy(span_loss(labels, logits))
    np.testing.assert_allclose(given, expected.mean(1), rtol=1e-5)


@pytest.mark.parametrize(
    "labels, match",
    [
        ([[(0, 9, "place")]], r"\(0, 9\) does not lie"),
        ([[(0, 1, "plce")]], "Did you mean 'place'"),
        ([[(0, 1)]], r"\(start, end, type\)"),
    ],
)
def test_bad_labels_are_refused(labels, match):
    model = recognizer()
    model.compile()
    with pytest.raises(ValueError, match=match):
        model.fit(TEXTS[:1], labels, verbose=0)


def test_too_many_labels_name_the_argument():
    model = recognizer(max_entities=1)
    model.compile()
    with pytest.raises(ValueError, match="max_entities=1"):
        model.fit(TEXTS[:1], [[(0, 1, "place"), (1, 2, "place")]], verbose=0)
