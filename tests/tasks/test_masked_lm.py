"""MaskedLM: the head, gathered positions, raw text, saving."""

import keras
import numpy as np
import pytest
from golden_cases import MODELS, to_numpy

import zoo
from bert4keras3 import tasks
from bert4keras3.models.gau_alpha import GAUAlphaBackbone
from bert4keras3.models.roformer import RoFormerBackbone
from bert4keras3.tasks.masked_lm import MaskedLM
from bert4keras3.tasks.masked_lm_preprocessor import MaskedLMPreprocessor
from bert4keras3.tasks.next_sentence import NextSentence
from bert4keras3.text import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["今天天气很好", "我们去公园玩", "天气很好我们去玩", "今天去公园"]
VOCABULARY = SPECIAL + sorted(set("".join(TEXTS))) + ["ab", "##c"]


@pytest.fixture
def tokenizer():
    return Tokenizer(VOCABULARY)


def gau(**arguments):
    sizes = {"num_layers": 1, "hidden_dim": 16, "intermediate_dim": 32, "key_dim": 8}
    return GAUAlphaBackbone(len(VOCABULARY), **{**sizes, **arguments})


def test_gathered_positions_equal_all_positions():
    model = MaskedLM(gau())
    ids = np.random.default_rng(0).integers(1, len(VOCABULARY), (3, 9)).astype("int32")
    positions = np.array([[1, 4], [8, 0], [3, 3]], "int32")
    everywhere = to_numpy(model({"token_ids": ids}))
    gathered = to_numpy(model({"token_ids": ids, "mask_positions": positions}))
    assert everywhere.shape == (3, 9, len(VOCABULARY))
    np.testing.assert_allclose(
        gathered, np.take_along_axis(everywhere, positions[..., None], 1), atol=1e-6
    )


def test_output_matrix_is_the_token_embedding():
    model = MaskedLM(gau())
    ids = np.array([[2, 6, 3]], "int32")
    before = to_numpy(model({"token_ids": ids}))
    hidden = to_numpy(model.backbone({"token_ids": ids}))
    table = to_numpy(model.backbone.token_embedding.embeddings)
    np.testing.assert_allclose(before, hidden @ table.T, atol=1e-5)
    assert not any("masked_lm_head" in weight.path for weight in model.weights)


def test_roformer_head_has_its_transform():
    backbone = RoFormerBackbone(30, 1, 2, 16, 32, embedding_dim=8)
    model = MaskedLM(backbone)
    paths = {w.path: tuple(w.shape) for w in model.weights if "head" in w.path}
    assert paths == {
        "masked_lm_head/transform_dense/kernel": (16, 8),
        "masked_lm_head/transform_dense/bias": (8,),
        "masked_lm_head/transform_norm/gamma": (8,),
        "masked_lm_head/transform_norm/beta": (8,),
        "masked_lm_head/output_bias": (30,),
    }


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "bfloat16"])
def test_logits_are_float32(dtype):
    model = MaskedLM(gau(dtype=dtype))
    logits = model({"token_ids": np.array([[2, 6, 3]], "int32")})
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


def test_fit_on_raw_text_lowers_the_loss(tokenizer):
    preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=12, seed=0)
    model = MaskedLM(gau(dropout=0.0, attention_dropout=0.0), preprocessor)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() != "torch",
    )
    history = model.fit(TEXTS * 4, batch_size=8, epochs=40, verbose=0)
    losses = history.history["loss"]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert np.isfinite(model.evaluate(TEXTS, verbose=0))
    logits = model.predict(TEXTS, batch_size=2, verbose=0)
    assert logits.shape == (4, 12, len(VOCABULARY))


def test_predict_takes_texts_pairs_and_arrays_alike(tokenizer):
    model = MaskedLM(gau(), MaskedLMPreprocessor(tokenizer))
    encoded = tokenizer(TEXTS[:2], TEXTS[2:])
    expected = model.predict(encoded, verbose=0)
    given = model.predict((TEXTS[:2], TEXTS[2:]), verbose=0)
    np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.tensorflow
def test_datasets_of_strings(tokenizer):
    import tensorflow as tf

    model = MaskedLM(gau(), MaskedLMPreprocessor(tokenizer, sequence_length=12))
    expected = model.predict((TEXTS[:2], TEXTS[2:]), verbose=0)
    pairs = tf.data.Dataset.from_tensor_slices(((TEXTS[:2], TEXTS[2:]), [0, 1]))
    np.testing.assert_allclose(
        model.predict(pairs.batch(2), verbose=0), expected, atol=1e-5
    )
    texts = tf.data.Dataset.from_tensor_slices(TEXTS)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(texts.batch(2), validation_data=texts.batch(4), verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    with pytest.raises(ValueError, match=r"dataset.batch\(32\)"):
        model.fit(texts)


def test_fill_gives_a_distribution_for_every_blank(tokenizer):
    model = MaskedLM(gau(), MaskedLMPreprocessor(tokenizer))
    filled = model.fill("今天[MASK]很[MASK]", top_k=3)
    assert [len(blank) for blank in filled] == [3, 3]
    whole = model.fill("今天[MASK]很[MASK]", top_k=10**6)
    for blank in whole:
        shares = [share for _, share in blank]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert whole[0][:3] == filled[0]
    # A batch gives what each text gives alone, whatever its padding.
    batch = model.fill(["今天[MASK]很[MASK]", "[MASK]"], top_k=3)
    for one, other in zip(batch[0], filled, strict=True):
        assert [t for t, _ in one] == [t for t, _ in other]
        np.testing.assert_allclose(
            [s for _, s in one], [s for _, s in other], atol=1e-5
        )


def test_fill_needs_a_blank_and_a_preprocessor(tokenizer):
    model = MaskedLM(gau(), MaskedLMPreprocessor(tokenizer))
    with pytest.raises(ValueError, match=r"no \[MASK\].*今天"):
        model.fill("今天")
    with pytest.raises(ValueError, match="preprocessor=None"):
        MaskedLM(gau()).fill("今[MASK]")
    with pytest.raises(ValueError, match="preprocessor=None"):
        MaskedLM(gau()).predict(["今天"])


@pytest.mark.parametrize("with_text", [True, False])
def test_saving_is_exact(tokenizer, tmp_path, with_text):
    preprocessor = MaskedLMPreprocessor(tokenizer, 12) if with_text else None
    model = MaskedLM(RoFormerBackbone(len(VOCABULARY), 1, 2, 16, 32), preprocessor)
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    model.save(tmp_path / "task.keras")
    copy = keras.saving.load_model(tmp_path / "task.keras")
    ids = {"token_ids": np.array([[2, 6, 7, 3]], "int32")}
    np.testing.assert_array_equal(to_numpy(model(ids)), to_numpy(copy(ids)))
    if with_text:
        assert copy.fill("今[MASK]") == model.fill("今[MASK]")


def test_a_function_cannot_be_saved_and_is_not_lost_silently(tokenizer, tmp_path):
    preprocessor = MaskedLMPreprocessor(tokenizer, word_segmenter=list)
    model = MaskedLM(gau(), preprocessor)
    with pytest.raises(ValueError, match="word_segmenter"):
        model.save(tmp_path / "task.keras")


class TestPreprocessor:
    def test_words_are_masked_whole(self):
        tokenizer = Tokenizer(VOCABULARY)
        preprocessor = MaskedLMPreprocessor(tokenizer, 10, mask_rate=0.5, seed=0)
        seen = 0
        for _ in range(20):
            inputs, ids, weights = preprocessor(["今abc天", "abc"])
            for row in range(2):
                places = set(inputs["mask_positions"][row][weights[row] > 0])
                pieces = {2, 3} if row == 0 else {1, 2}
                assert pieces <= places or not pieces & places
                seen += bool(pieces & places)
        assert 5 < seen < 40

    def test_word_segmenter_joins_characters(self):
        tokenizer = Tokenizer(VOCABULARY)

        def segment(text):
            return (
                ["今天", "天气", "很", "好"] if text == "今天天气很好" else list(text)
            )

        preprocessor = MaskedLMPreprocessor(tokenizer, word_segmenter=segment)
        ids = tokenizer(["今天天气很好"], ["公园"])["token_ids"]
        words = preprocessor.word_ids(["今天天气很好"], ["公园"], ids)
        assert words.tolist() == [[-1, 0, 0, 1, 1, 2, 3, -1, 4, 5, -1]]

    def test_inputs_keep_what_was_not_masked(self):
        tokenizer = Tokenizer(VOCABULARY)
        preprocessor = MaskedLMPreprocessor(tokenizer, 12, seed=3)
        plain = tokenizer(TEXTS, length=12)["token_ids"]
        inputs, ids, weights = preprocessor(TEXTS)
        restored = inputs["token_ids"].copy()
        for row in range(len(TEXTS)):
            for place, token, weight in zip(
                inputs["mask_positions"][row], ids[row], weights[row], strict=True
            ):
                if weight:
                    restored[row, place] = token
        np.testing.assert_array_equal(restored, plain)
        assert weights.sum() >= len(TEXTS)


def test_bad_ids_are_refused():
    model = MaskedLM(gau())
    for ids, error in (
        ([[len(VOCABULARY)]], ValueError),
        ([[-1]], ValueError),
        ([[1.0]], TypeError),
    ):
        inputs = {"token_ids": np.array(ids)}
        with pytest.raises(error, match="token_ids"):
            model(inputs)
        with pytest.raises(error, match="token_ids"):
            model.predict(inputs, verbose=0)


def test_next_sentence_needs_a_pooler():
    with pytest.raises(ValueError, match="pooler='tanh'"):
        NextSentence(RoFormerBackbone(30, 1, 2, 16, 32))


def test_tasks_are_found_by_name():
    assert len(tasks.TASKS) >= 2
    for name in tasks.TASKS:
        assert issubclass(tasks.get(name), keras.Model)
    with pytest.raises(ValueError, match="masked_lm"):
        tasks.get("maskedlm")


def test_head_weights_come_from_the_checkpoint():
    """Loading a task leaves no head weight at its random start."""
    one = zoo.load(MODELS / "roformer", task="masked_lm")
    two = zoo.load(MODELS / "roformer", task="masked_lm")
    assert sum("masked_lm_head" in w.path for w in one.weights) == 5
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
