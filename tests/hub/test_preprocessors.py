"""Texts reach a hub model as they reach ours, eagerly and in `tf.data`."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from small_tasks import SPECIAL, backbone, tokenizer

import bert4keras3.hub as hub
from bert4keras3.text import Tokenizer

TEXTS = ["今天天气好", "abc", ""]
PAIRS = ["好", "今天今天今天今天", "气"]


def words(**settings):
    return Tokenizer([*tokenizer("今天气好").vocabulary], **settings)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        theirs_here = np.asarray(theirs[name])
        assert ours[name].dtype == theirs_here.dtype
        assert np.array_equal(ours[name], theirs_here), name


@pytest.mark.parametrize("zero_segments", [False, True])
def test_pairs_are_encoded_as_by_our_tokenizer(zero_segments):
    ours = words(zero_segments=zero_segments)
    preprocessor = hub.TextClassifierPreprocessor(hub.wrap(ours), 9)
    expected = ours(TEXTS, PAIRS, length=9)
    assert expected["segment_ids"].any() != zero_segments
    assert_same(expected, preprocessor((TEXTS, PAIRS), sample_weight=None))
    x, y, weights = preprocessor((TEXTS, PAIRS), y=[1, 2, 3], sample_weight=[1, 1, 0])
    assert_same(expected, x)
    assert list(y) == [1, 2, 3] and list(weights) == [1, 1, 0]
    data = tf.data.Dataset.from_tensor_slices(((TEXTS, PAIRS), [1, 2, 3])).batch(3)
    data = data.map(preprocessor)
    assert data.element_spec[0]["token_ids"].shape == (None, 9)
    x, y = next(iter(data))
    assert_same(expected, x)
    assert list(y.numpy()) == [1, 2, 3]


@pytest.mark.parametrize("length", [None, [4, 8]])
def test_lengths_may_follow_the_batch(length):
    preprocessor = hub.TextEmbedderPreprocessor(hub.wrap(words()), length)
    expected = words()(TEXTS, length=length)
    assert_same(expected, preprocessor(TEXTS))
    data = tf.data.Dataset.from_tensors(TEXTS).map(preprocessor)
    assert data.element_spec["token_ids"].shape == (3, None)
    assert_same(expected, next(iter(data)))


def test_one_text_has_no_batch_axis():
    preprocessor = hub.TextClassifierPreprocessor(hub.wrap(words()), 6)
    expected = {name: array[0] for name, array in words()("今天", length=6).items()}
    for text in ("今天", tf.constant("今天"), np.array("今天")):
        assert_same(expected, preprocessor(text))
    data = tf.data.Dataset.from_tensor_slices(["今天"]).map(preprocessor)
    assert data.element_spec["token_ids"].shape == (6,)
    assert_same(expected, next(iter(data)))


def test_masks_are_those_of_our_preprocessor():
    made = [hub.MaskedLMPreprocessor(hub.wrap(words()), 9, seed=3) for _ in range(2)]
    (x, y, weights), expected = made[0](TEXTS), made[1].unwrap()(TEXTS)
    assert_same(expected[0], x)
    assert np.array_equal(y, expected[1]) and np.array_equal(weights, expected[2])
    assert weights.any()
    another = made[0](TEXTS)[0]["token_ids"]
    assert another.shape == x["token_ids"].shape
    data = tf.data.Dataset.from_tensors((TEXTS, PAIRS))
    data = data.map(lambda *x: made[0](x, y=None))
    x, y, _ = next(iter(data))
    assert x["mask_positions"].shape == y.shape and x["segment_ids"].numpy().any()


@pytest.mark.parametrize(
    "name",
    [
        "TextClassifierPreprocessor",
        "TextEmbedderPreprocessor",
        "MaskedLMPreprocessor",
    ],
)
def test_preprocessors_are_kept_in_presets(name, tmp_path):
    preprocessor = getattr(hub, name)(
        hub.wrap(words(lowercase=False, zero_segments=True)), 7, name="mine"
    )
    again = type(preprocessor).from_config(preprocessor.get_config())
    assert again.get_config() == preprocessor.get_config()
    preprocessor.save_to_preset(str(tmp_path))
    again.load_preset_assets(str(tmp_path))
    assert vars(again.tokenizer.unwrap())["vocabulary"] == words().vocabulary
    assert again.tokenizer.unwrap().zero_segments
    assert not again.tokenizer.unwrap().lowercase
    assert again.sequence_length == 7


def test_tokenizer_has_kerashubs_methods():
    hubs = hub.wrap(words())
    ours = words()
    assert hubs.get_vocabulary() == ours.vocabulary
    assert hubs.vocabulary_size() == ours.vocabulary_size
    assert hubs.id_to_token(5) == ours.vocabulary[5]
    assert hubs.special_tokens and hubs.special_token_ids == [0, 1, 2, 3, 4]
    assert set(hubs.special_tokens) == set(SPECIAL)
    ids = (hubs.pad_token_id, hubs.start_token_id, hubs.end_token_id)
    assert (*ids, hubs.mask_token_id) == (0, 2, 3, 4)
    rows = hubs(TEXTS)
    assert rows == [ours.encode(t, add_special_tokens=False).token_ids for t in TEXTS]
    assert hubs.detokenize(rows) == TEXTS
    assert hubs.detokenize(hubs(TEXTS[0])) == TEXTS[0]
    assert isinstance(hubs, keras_hub.tokenizers.Tokenizer)


def test_word_level_models_keep_their_words(tmp_path):
    ours = Tokenizer([*SPECIAL, "今天", "天气", "今", "天"], pre_tokenize="jieba")
    hubs = hub.wrap(ours)
    hubs.save_assets(str(tmp_path))
    again = hub.Tokenizer.from_config(hubs.get_config())
    again.load_assets(str(tmp_path))
    assert again(["天气，今天"]) == hubs(["天气，今天"]) == [[6, 1, 5]]


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="no vocabulary.*set_vocabulary"):
        hub.Tokenizer().vocabulary_size()
    with pytest.raises(ValueError, match="waterfall.*round_robin"):
        hub.TextClassifierPreprocessor(hub.wrap(words()), truncate="waterfall")
    preprocessor = hub.TextClassifierPreprocessor(hub.wrap(words()), 8)
    with pytest.raises(ValueError, match="3 segments"):
        preprocessor((TEXTS, TEXTS, TEXTS), y=None)
    with pytest.raises(ValueError, match="is a tuple, not a list"):
        preprocessor([["今", "天"], ["好", "气"]])
    with pytest.raises(ValueError, match="one by one"):
        hub.TextEmbedderPreprocessor(hub.wrap(words()))((TEXTS, PAIRS), y=None)


def test_fit_and_predict_take_raw_text():
    ours = words()
    model = hub.TextClassifier(
        hub.Backbone(backbone(ours.vocabulary_size)),
        hub.TextClassifierPreprocessor(hub.wrap(ours), 8),
        num_classes=2,
    )
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    texts, labels = ["今天", "好", "今", "好气"] * 2, np.array([0, 1, 0, 1] * 2)
    history = model.fit(texts, labels, epochs=8, shuffle=False, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    expected = np.array(model.unwrap()(ours(texts, length=8)))
    np.testing.assert_allclose(model.predict(texts, verbose=0), expected, atol=1e-6)
