"""RelationExtractor: pairs of tokens, linking, training, saving."""

import keras
import numpy as np
import pytest
from small_tasks import QUICK_JIT, backbone, tokenizer

from bert4keras3.tasks.entity_recognizer import spans_above
from bert4keras3.tasks.relation_extractor import RelationExtractor, linked
from bert4keras3.tasks.relation_extractor_preprocessor import (
    RelationExtractorPreprocessor,
)

CHARACTERS = "山水在天地人"
TEXTS = ["人在山水天", "天地在山水", "abc在山水天地", "地天人在天"]
PREDICATES = ["in", "near"]


def relations(text):
    """Who is where: what stands before 在 is in what stands behind it."""
    place = text.index("在")
    return [((0, place), "in", (place + 1, len(text)))]


def extractor(**arguments):
    words = tokenizer(CHARACTERS)
    return RelationExtractor(
        backbone(words.vocabulary_size),
        RelationExtractorPreprocessor(words, 10, **arguments),
        label_names=PREDICATES,
        head_dim=16,
    )


def test_learns_relations_and_links_them(tmp_path):
    model = extractor()
    model.compile(keras.optimizers.Adam(2e-2), jit_compile=QUICK_JIT)
    labels = [relations(text) for text in TEXTS]
    history = model.fit(TEXTS, labels, batch_size=4, epochs=80, verbose=0)
    assert history.history["loss"][-1] < 0.1 < history.history["loss"][0]
    found = model.extract(TEXTS, batch_size=3)
    spans = [
        [(r["subject_span"], r["predicate"], r["object_span"]) for r in row]
        for row in found
    ]
    assert spans == labels
    assert found[0][0]["subject"] == "人" and found[0][0]["object"] == "山水天"
    model.save(tmp_path / "task.keras")
    assert keras.saving.load_model(tmp_path / "task.keras").extract(TEXTS) == found


def test_indices_of_relations():
    made = extractor().preprocessor
    _, labels = made(["人在山水天"], labels=[(2, [((2, 5), 1, (0, 1))])])
    assert labels["entities"][0, :, 0].tolist() == [3 * 10 + 5, 1 * 10 + 1]
    assert labels["heads"][0, :, 0].tolist() == [-1, 3 * 10 + 1]
    assert labels["tails"][0, :, 0].tolist() == [-1, 5 * 10 + 1]
    assert labels["entities"].shape == (1, 2, 64)


def test_linking_wants_all_four_parts():
    logits = {
        "entities": np.full((2, 9), -1.0),
        "heads": np.full((2, 9), -1.0),
        "tails": np.full((2, 9), -1.0),
    }
    logits["entities"][0, 1] = logits["entities"][1, 8] = 1  # (0, 1) and (2, 2)
    logits["heads"][1, 0 * 3 + 2] = logits["heads"][0, 0 * 3 + 2] = 1
    assert linked(logits) == []
    logits["tails"][1, 1 * 3 + 2] = 2
    assert linked(logits) == [((0, 1), 1, (2, 2))]
    assert spans_above(logits["entities"]) == [(0, 0, 1, 1.0), (1, 2, 2, 1.0)]
    logits["entities"][1, 8] = -0.1
    assert linked(logits) == []


def test_relations_share_their_ends_and_lie_within_the_limit():
    made = extractor(max_relations=2).preprocessor
    made.sequence_length = 7  # five characters
    first, other, cut = ((0, 1), 0, (2, 3)), ((0, 1), 0, (4, 5)), ((0, 1), 1, (5, 6))
    _, labels = made(["人在山水天地"], labels=[(2, [first, other, first, cut])])
    assert labels["entities"][0].tolist() == [[8, -1, -1, -1], [24, 40, -1, -1]]
    assert labels["heads"][0].tolist() == [[1 * 7 + 3, 1 * 7 + 5], [-1, -1]]
    assert labels["tails"][0].tolist() == labels["heads"][0].tolist()
    more = [first, other, ((0, 1), 0, (3, 4))]
    with pytest.raises(ValueError, match="3 labels of one kind, but max_relations=2"):
        made(["人在山水天地"], labels=[(2, more)])


@pytest.mark.parametrize(
    "labels, match",
    [
        ([[((0, 9), "in", (0, 1))]], r"\(0, 9\) does not lie"),
        ([[((0, 1), "on", (0, 1))]], "'on' at row 0, relation 0"),
        ([[(0, 1, "in")]], "list of relations"),
    ],
)
def test_bad_labels_are_refused(labels, match):
    model = extractor()
    model.compile()
    with pytest.raises(ValueError, match=match):
        model.fit(TEXTS[:1], labels, verbose=0)
