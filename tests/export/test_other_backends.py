"""Models of other backends are exported by TensorFlow, and answer alike."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from small_tasks import CHARACTERS, TEXTS, backbone, small_task, tokenizer

import bert4keras3.export.saved_model as module
from bert4keras3.export.saved_model import export_saved_model, write_in_another_process


def answers(folder, **columns):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    tensors = {name: tf.constant(value) for name, value in columns.items()}
    found = loaded.signatures["serving_default"](**tensors)
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.jax
@pytest.mark.torch
def test_a_task_of_this_backend(tmp_path):
    task = small_task("text_classifier")
    task.export(tmp_path / "1")
    given = answers(tmp_path / "1", text=TEXTS)
    expected = to_numpy(task.predict(TEXTS, verbose=0))
    np.testing.assert_allclose(given["logits"], expected, atol=1e-5)


@pytest.mark.tensorflow
def test_the_other_process(tmp_path):
    """What other backends go through, with a backbone and a tokenizer beside it."""
    words = tokenizer(CHARACTERS)
    model = backbone(words.vocabulary_size)
    write_in_another_process(model, tmp_path / "1", words, True)
    given = answers(tmp_path / "1", text=TEXTS, pair=TEXTS[::-1])
    expected = to_numpy(model(words(TEXTS, TEXTS[::-1])))
    mask = given["padding_mask"].astype(bool)
    np.testing.assert_allclose(given["hidden_states"][mask], expected[mask], atol=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Unknown(keras.layers.Layer):
    """A layer that no other process knows."""

    def call(self, x):
        return x


@pytest.mark.tensorflow
def test_layers_that_the_other_process_does_not_know(tmp_path, monkeypatch):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, Unknown()(inputs))
    monkeypatch.setattr(module.keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="must be registered"):
        export_saved_model(model, tmp_path / "serving" / "1")
    assert not list((tmp_path / "serving").iterdir())
