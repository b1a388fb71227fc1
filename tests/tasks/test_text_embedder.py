"""TextEmbedder: pairs as rows, whitening, training, saving."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from small_tasks import JIT, backbone, tokenizer

from bert4keras3.embedding_losses import SimCSELoss
from bert4keras3.tasks.text_embedder import TextEmbedder
from bert4keras3.tasks.text_embedder_preprocessor import TextEmbedderPreprocessor

CHARACTERS = "天地人山水好坏"
TEXTS = ["天地", "天地人", "山水", "山水好", "好人", "坏人", "人", "地人"]


def task(**arguments):
    words = tokenizer(CHARACTERS)
    preprocessor = TextEmbedderPreprocessor(words, 8)
    return TextEmbedder(backbone(words.vocabulary_size), preprocessor, **arguments)


def test_pairs_stand_one_after_the_other():
    made = task().preprocessor
    inputs, labels = made(TEXTS[:2], TEXTS[2:4], labels=[3, 5])
    single = made([TEXTS[0], TEXTS[2], TEXTS[1], TEXTS[3]], inputs_only=True)
    assert np.array_equal(inputs["token_ids"], single["token_ids"])
    assert labels.tolist() == [3, 3, 5, 5]
    assert made(TEXTS[:2], TEXTS[2:4])[1].tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="2 texts but 1 pairs"):
        made(TEXTS[:2], TEXTS[:1])


def test_vectors_are_pooled_states_of_length_one():
    model = task()
    inputs = model.preprocessor(TEXTS[:2], inputs_only=True)
    states = to_numpy(model.backbone(inputs))
    mask = inputs["padding_mask"][..., None]
    expected = (states * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(to_numpy(model(inputs)), expected, atol=1e-5)
    vectors = model.embed(TEXTS[:2])
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected / lengths, atol=1e-5)
    np.testing.assert_allclose(model.embed(TEXTS[0]), vectors[0], atol=1e-5)


def test_whitened_vectors_have_unit_covariance(tmp_path):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(CHARACTERS), 6)) for _ in range(60)]
    model = task(whitening_dim=5)
    plain = to_numpy(model(model.preprocessor(texts[:3], inputs_only=True)))
    model.fit_whitening(texts, batch_size=16)
    vectors = model.embed(texts, normalize=False)
    assert vectors.shape == (60, 5) and not np.allclose(vectors[:3], plain)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(vectors.T, bias=True), np.eye(5), atol=1e-2)
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    np.testing.assert_allclose(
        loaded.embed(texts[:4]), model.embed(texts[:4]), atol=1e-5
    )


def test_training_brings_pairs_together():
    """Under XLA, and on TensorFlow without knowing how many pairs a batch has."""
    model = task()
    model.compile(keras.optimizers.Adam(2e-2), loss=SimCSELoss(), jit_compile=JIT)
    history = model.fit((TEXTS[::2], TEXTS[1::2]), epochs=40, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    vectors = model.embed(TEXTS)
    cosines = vectors @ vectors.T - 2 * np.eye(len(TEXTS))
    assert cosines.argmax(1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 16\].*Received 17"):
        task(whitening_dim=17)
    with pytest.raises(ValueError, match="whitening_dim="):
        task().fit_whitening(TEXTS)
    with pytest.raises(ValueError, match="more texts"):
        task(whitening_dim=8).fit_whitening(TEXTS)
    with pytest.raises(ValueError, match="no loss of its own.*CoSENTLoss"):
        task().compile()
