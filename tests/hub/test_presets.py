"""A preset saved here is loaded by plain KerasHub calls in another process."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from small_tasks import backbone, tokenizer

import bert4keras3.hub as hub
from bert4keras3 import tasks
from bert4keras3.models import BertBackbone

ROOT = Path(__file__).parents[2]
TEXTS = ["今天天气", "好", "abc今"]
PAIRS = ["好", "今天", "气"]

READER = """
import sys

import numpy as np

import bert4keras3, bert4keras3.models, bert4keras3.text, zoo
from bert4keras3 import tasks

for name in tasks.TASKS:
    tasks.get(name)
assert "keras_hub" not in sys.modules, "it must be imported only when asked for"

import keras_hub

folder = sys.argv[1]
try:
    keras_hub.models.Backbone.from_preset(f"{folder}/classifier")
except ValueError as error:
    assert "no class registered" in str(error), error
else:
    raise AssertionError("bert4keras3.hub registers the classes")

import bert4keras3.hub

arrays = dict(np.load(f"{folder}/arrays.npz"))
plain = {name: arrays[name] for name in ("token_ids", "segment_ids", "padding_mask")}
texts, pairs = list(arrays["texts"]), list(arrays["pairs"])
classifier = keras_hub.models.TextClassifier.from_preset(f"{folder}/classifier")
masked_lm = keras_hub.models.MaskedLM.from_preset(f"{folder}/masked_lm")
embedder = keras_hub.models.TextEmbedder.from_preset(f"{folder}/embedder")
backbone = keras_hub.models.Backbone.from_preset(f"{folder}/masked_lm")
new_head = keras_hub.models.TextClassifier.from_preset(
    f"{folder}/masked_lm", num_classes=5, preprocessor=None
)
tokenizer = keras_hub.models.Tokenizer.from_preset(f"{folder}/classifier")
masked_lm.preprocessor = None
np.savez(
    f"{folder}/read.npz",
    classifier=classifier.predict((texts, pairs), verbose=0),
    names=classifier.unwrap().classify(texts[0])[0][0],
    masked_lm=masked_lm({**plain, "mask_positions": arrays["mask_positions"]}),
    embedder=embedder.encode_text(texts, verbose=0),
    backbone=backbone(plain),
    new_head=new_head(plain).shape,
    ids=tokenizer([texts[0]])[0],
)
"""


def randomize(model):
    """Weights that no initializer gives, so that none can go missing unnoticed."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What this process computes, and what another one read and computed."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("presets")
    words = tokenizer("今天气好")
    classifier = tasks.get("text_classifier")(
        backbone(words.vocabulary_size),
        tasks.get("text_classifier").preprocessor_class(words, 12),
        label_names=["bad", "good", "none"],
        pooling="attention",
    )
    masked_lm = tasks.get("masked_lm")(
        BertBackbone(words.vocabulary_size, 1, 2, 16, 32, max_sequence_length=12)
    )
    embedder = tasks.get("text_embedder")(
        backbone(words.vocabulary_size),
        tasks.get("text_embedder").preprocessor_class(words, 12),
        whitening_dim=4,
    )
    for name, task in (
        ("classifier", classifier),
        ("masked_lm", masked_lm),
        ("embedder", embedder),
    ):
        randomize(task)
        hub.wrap(task).save_to_preset(str(folder / name))
    plain = words(TEXTS, length=12)
    positions = np.array([[1, 2], [1, 0], [2, 1]], "int32")
    np.savez(
        folder / "arrays.npz",
        **plain,
        mask_positions=positions,
        texts=np.array(TEXTS),
        pairs=np.array(PAIRS),
    )
    done = subprocess.run(
        [sys.executable, "-c", READER, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    here = {
        "classifier": np.array(classifier(words(TEXTS, PAIRS, length=12))),
        "names": classifier.classify(TEXTS[0])[0][0],
        "masked_lm": np.array(masked_lm({**plain, "mask_positions": positions})),
        "embedder": embedder.embed(TEXTS),
        "backbone": np.array(masked_lm.backbone(plain)),
        "new_head": (3, 5),
        "ids": words.encode(TEXTS[0], add_special_tokens=False).token_ids,
    }
    return here, dict(np.load(folder / "read.npz")), folder


@pytest.mark.parametrize("name", ["classifier", "masked_lm", "embedder", "backbone"])
def test_outputs_are_equal_in_another_process(saved, name):
    here, there, _ = saved
    assert np.std(here[name]) > 0.1
    np.testing.assert_allclose(there[name], here[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["names", "new_head", "ids"])
def test_everything_else_is_equal_too(saved, name):
    here, there, _ = saved
    assert np.array_equal(there[name], here[name])


def test_presets_say_which_tasks_they_serve(saved):
    metadata = (saved[2] / "masked_lm" / "metadata.json").read_text("utf-8")
    for name in ("MaskedLM", "TextClassifier", "TextEmbedder"):
        assert f'"{name}"' in metadata


def test_the_vocabulary_is_written_as_it_was(saved):
    vocabulary = saved[2] / "classifier" / "assets" / "tokenizer" / "vocab.txt"
    expected = tokenizer("今天气好").vocabulary
    assert vocabulary.read_text("utf-8") == "".join(f"{token}\n" for token in expected)


def test_dtype_and_arguments_can_be_chosen_while_loading(saved):
    preset = str(saved[2] / "masked_lm")
    loaded = keras_hub.models.Backbone.from_preset(
        preset, dtype="bfloat16", dropout=0.3
    )
    assert loaded.token_embedding.dtype_policy.name == "bfloat16"
    assert loaded.model.dropout == 0.3
    with pytest.raises(TypeError, match="nonsense"):
        keras_hub.models.Backbone.from_preset(preset, nonsense=1)
    with pytest.raises(TypeError, match="nonsense"):
        keras_hub.models.TextClassifier.from_preset(
            preset, num_classes=2, preprocessor=None, nonsense=1
        )
