"""TextClassifier: labels, padding, training, answers, saving."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import QUICK_JIT

from bert4keras3.layers.pooling import POOLINGS
from bert4keras3.models.gau_alpha import GAUAlphaBackbone
from bert4keras3.tasks.text_classifier import TextClassifier
from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.text import Tokenizer

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"好坏天气很不我们"]
TEXTS = ["天气很好", "我们很坏", "好天气", "坏天气", "我们不坏", "不好"]
LABELS = ["good", "bad", "good", "bad", "good", "bad"]
NAMES = ["bad", "good"]


def backbone(**arguments):
    sizes = {"num_layers": 1, "hidden_dim": 16, "intermediate_dim": 32, "key_dim": 8}
    off = {"dropout": 0.0, "attention_dropout": 0.0}
    return GAUAlphaBackbone(len(VOCABULARY), **{**sizes, **off, **arguments})


def classifier(length=8, **arguments):
    preprocessor = TextPreprocessor(Tokenizer(VOCABULARY), length)
    arguments = {"label_names": NAMES, **arguments}
    return TextClassifier(backbone(), preprocessor, **arguments)


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_padding_changes_nothing(pooling):
    model = classifier(pooling=pooling)
    assert POOLINGS
    ids = np.array([[2, 5, 7, 3], [2, 6, 3, 0]], "int32")
    before = to_numpy(model({"token_ids": ids}))
    longer = np.pad(ids, ((0, 0), (0, 3)))
    mask = (longer != 0).astype("int32")
    longer[:, 4:] = 9
    after = to_numpy(model({"token_ids": longer, "padding_mask": mask}))
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("length", [[6, 8], None])
def test_a_later_batch_may_have_another_length(length):
    """Keras on TensorFlow takes the shapes from two batches, which are equal here."""
    model = classifier(length=length)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=QUICK_JIT)
    texts, labels = ["我们不坏"] * 4 + ["好", "我们很不坏"], ["good", "bad"] * 3
    data = (texts, labels)
    fit = {"batch_size": 2, "shuffle": False, "validation_data": data, "verbose": 0}
    history = model.fit(texts, labels, **fit).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    singly = model.predict(texts, batch_size=1, verbose=0)
    np.testing.assert_allclose(singly, model.predict(texts, verbose=0), atol=1e-4)


def test_learns_named_labels_from_raw_text_and_says_them():
    # By [CLS] alone, half of the seeds never tell two of the texts apart.
    model = classifier(pooling="mean")
    model.compile(keras.optimizers.Adam(3e-2), jit_compile=QUICK_JIT)
    history = model.fit(TEXTS, LABELS, batch_size=6, epochs=60, verbose=0)
    assert history.history["loss"][-1] < 0.1 < history.history["loss"][0]
    assert history.history["sparse_categorical_accuracy"][-1] == 1.0
    evaluated = model.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert evaluated["sparse_categorical_accuracy"] == 1.0
    assert [best[0][0] for best in model.classify(TEXTS, batch_size=4)] == LABELS
    both = model.classify(TEXTS[0], top_k=2)
    assert [name for name, _ in both] == ["good", "bad"]
    assert sum(p for _, p in both) == pytest.approx(1.0)
    logits = model.predict(TEXTS, verbose=0)
    assert logits.shape == (6, 2) and logits.dtype == np.float32


def test_pairs_and_numbers():
    model = classifier(label_names=None, num_classes=3)
    model.compile(jit_compile=QUICK_JIT)
    pairs = (TEXTS, TEXTS[::-1])
    model.fit(pairs, [0, 1, 2, 0, 1, 2], validation_data=(pairs, [0] * 6), verbose=0)
    assert model.classify(*pairs)[0][0][0] in (0, 1, 2)
    assert isinstance(model.optimizer, keras.optimizers.Adam)


@pytest.mark.parametrize(
    "labels, match",
    [
        (["good", "god"], "'god' at row 1.*Did you mean 'good'"),
        ([0, 2], r"Label 2 at row 1 is not in \[0, 2\)"),
        ([0.5, 1.0], "string or an integer"),
        ([0], "2 texts but 1 labels"),
    ],
)
def test_bad_labels_are_refused_before_training(labels, match):
    model = classifier()
    model.compile()
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(TEXTS[:2], labels, verbose=0)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="needs label_names"):
        classifier(label_names=None)
    with pytest.raises(ValueError, match="2 label_names, but 3 classes"):
        classifier(num_classes=3)
    with pytest.raises(ValueError, match="more than once"):
        classifier(label_names=["a", "a"])
    with pytest.raises(ValueError, match="Did you mean 'mean'"):
        classifier(pooling="meen")
    with pytest.raises(ValueError, match="label_names="):
        model = classifier(label_names=None, num_classes=2)
        model.compile()
        model.fit(TEXTS, LABELS, verbose=0)


def test_saved_whole_with_its_compilation(tmp_path):
    model, x = classifier(), TEXTS[:2]
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=QUICK_JIT)
    model.fit(x, [0, 1], verbose=0)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, atol=1e-6)
    given, kept = (
        each.evaluate(x, [0, 1], verbose=0, return_dict=True)
        for each in (loaded, model)
    )
    assert given == pytest.approx(kept, abs=1e-5)
    assert int(loaded.optimizer.iterations) == 1
    assert loaded.get_config()["preprocessor"]["class_name"].endswith(
        type(model.preprocessor).__name__
    )
