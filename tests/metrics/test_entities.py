"""Exact entities: sets against counts by hand, and the metric against the sets."""

import keras
import numpy as np
import pytest

from bert4keras3.metrics import SpanF1, cluener_entities, entity_scores

pytestmark = pytest.mark.backend
RNG = np.random.default_rng(5)

REFERENCES = [{(0, 1, "a"), (3, 4, "a"), (6, 6, "b")}, set(), {(0, 0, "c")}]
PREDICTIONS = [{(0, 1, "a"), (3, 5, "a"), (6, 6, "b")}, {(1, 1, "b")}, set()]


def test_counts_by_hand():
    scores = entity_scores(REFERENCES, PREDICTIONS)
    assert scores["precision"] == pytest.approx(2 / 4)
    assert scores["recall"] == pytest.approx(2 / 4)
    assert scores["f1"] == pytest.approx(1 / 2)
    types = scores["types"]
    assert [types[kind]["f1"] for kind in "abc"] == pytest.approx([1 / 2, 2 / 3, 0])
    assert [types[kind]["support"] for kind in "abc"] == [2, 1, 1]
    assert scores["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 3)


def test_macro_over_given_types():
    scores = entity_scores(REFERENCES, PREDICTIONS, types=["a", "b", "c", "d"])
    assert scores["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 4)
    assert entity_scores([], [])["macro_f1"] == 0.0


def test_cluener_counts_words_once():
    label = {"name": {"甲": [[0, 0], [4, 4]], "乙": [[2, 2]]}, "book": {"丙": [[6, 6]]}}
    found = {"name": {"甲": [[0, 0]]}, "book": {}}
    scores = entity_scores([cluener_entities(label)], [cluener_entities(found)])
    assert scores["types"]["name"]["f1"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx(1 / 3)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="one prediction for each text"):
        entity_scores([set()], [])
    with pytest.raises(ValueError, match="is its type, one of a, b"):
        entity_scores(REFERENCES, PREDICTIONS, types=["a", "b"])


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_the_metric_equals_the_sets(average):
    metric = SpanF1(4, average)
    metric = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert float(metric.result()) == 0.0
    for _ in range(2):  # the second time after a reset
        metric.reset_state()
        references, predictions = [], []
        for _ in range(3):
            labels = (RNG.random((2, 4, 5, 5)) < 0.1).astype("int32")
            labels[:, 3] = 0
            logits = np.where(labels == 1, 1.0, -1.0) * RNG.normal(1, 1, labels.shape)
            logits[:, 3] = -np.inf  # a type that does not occur
            metric.update_state(labels, logits.astype("float32"))
            for text in range(2):
                for found, into in ((labels, references), (logits, predictions)):
                    spans = np.argwhere(found[text] > 0).tolist()
                    into.append({(start, end, kind) for kind, start, end in spans})
        scores = entity_scores(references, predictions)
        expected = scores["f1"] if average == "micro" else scores["macro_f1"]
        assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_weights_of_texts():
    labels = np.zeros((2, 1, 2, 2), "int32")
    labels[:, 0, 0, 0] = 1
    logits = np.full(labels.shape, -1.0, "float32")
    logits[0, 0, 0, 0] = 1.0
    metric = SpanF1(1)
    metric.update_state(labels, logits, sample_weight=np.array([1.0, 0.0]))
    assert float(metric.result()) == 1.0
    metric.update_state(labels, logits)
    assert float(metric.result()) == pytest.approx(0.8)


def test_in_a_compiled_model():
    model = keras.Sequential([keras.Input((2, 3, 3)), keras.layers.Activation("tanh")])
    compiled = keras.backend.backend() != "torch"
    model.compile(loss="mse", metrics=[SpanF1(2)], jit_compile=compiled)
    labels = (RNG.random((4, 2, 3, 3)) < 0.4).astype("float32")
    _, score = model.evaluate(2 * labels - 1, labels, verbose=0)
    assert float(score) == pytest.approx(1.0)


def test_wrong_arguments_of_the_metric():
    with pytest.raises(ValueError, match="must be 'micro' or 'macro'"):
        SpanF1(2, "weighted")
    with pytest.raises(ValueError, match="3 types on axis 1"):
        SpanF1(3).update_state(np.zeros((1, 2, 4, 4)), np.zeros((1, 2, 4, 4)))
    with pytest.raises(ValueError, match="must have the same shape"):
        SpanF1(2).update_state(np.zeros((1, 2, 4, 5)), np.zeros((1, 2, 4, 4)))
