"""FLASH and FLASH-Quad as whole models."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy
from gradients import compiled

from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.models.flash import FLASHBackbone
from bert4keras3.tasks.masked_lm import MaskedLM

CHUNKS = pytest.mark.parametrize("chunk_size", [4, None])
ATTENTIONS = pytest.mark.parametrize("attention", ["bidirectional", "causal"])
JIT = keras.backend.backend() != "torch"


def build(**arguments):
    keras.utils.set_random_seed(0)
    model = FLASHBackbone(
        **{
            "vocabulary_size": 50,
            "num_layers": 2,
            "hidden_dim": 32,
            "intermediate_dim": 64,
            "key_dim": 16,
            "chunk_size": 4,
            **arguments,
        }
    )
    random = np.random.default_rng(0)
    for weight in model.weights:
        # Offsets and biases are not zero in a trained model.
        value = to_numpy(weight) + 0.1 * random.normal(size=weight.shape)
        weight.assign(value)
    return model


def inputs_of(lengths, width, seed=0):
    random = np.random.default_rng(seed)
    mask = np.arange(width) < np.array(lengths)[:, None]
    return {
        "token_ids": (random.integers(1, 50, mask.shape) * mask).astype("int32"),
        "segment_ids": np.zeros(mask.shape, "int32"),
        "padding_mask": mask,
    }


@ATTENTIONS
@CHUNKS
def test_padding_changes_no_real_position(chunk_size, attention):
    run = compiled(build(chunk_size=chunk_size, attention=attention))
    inputs = inputs_of([5, 11, 1], 11)
    mask = inputs["padding_mask"]
    expected = to_numpy(run(inputs))
    noise = np.random.default_rng(1).integers(1, 50, mask.shape)
    token_ids = np.where(mask, inputs["token_ids"], noise).astype("int32")
    given = to_numpy(run({**inputs, "token_ids": token_ids}))
    assert np.abs(given[~mask] - expected[~mask]).max() > 0.1
    np.testing.assert_allclose(given[mask], expected[mask], atol=1e-5)
    longer = {key: np.pad(value, ((0, 0), (0, 8))) for key, value in inputs.items()}
    given = to_numpy(run(longer))[:, :11]
    np.testing.assert_allclose(given[mask], expected[mask], atol=1e-5)


@CHUNKS
def test_a_causal_row_never_sees_the_future(chunk_size):
    run = compiled(build(chunk_size=chunk_size, attention="causal"))
    inputs = inputs_of([10], 10)
    expected = to_numpy(run(inputs))
    for place in (1, 4, 6, 9):
        token_ids = inputs["token_ids"].copy()
        token_ids[:, place:] = 50 - token_ids[:, place:]
        given = to_numpy(run({**inputs, "token_ids": token_ids}))
        np.testing.assert_allclose(given[:, :place], expected[:, :place], atol=1e-5)
        assert np.abs(given[:, place:] - expected[:, place:]).max() > 0.1


@CHUNKS
def test_positions_given_and_counted(chunk_size):
    model = build(chunk_size=chunk_size, use_position_ids=True)
    inputs = inputs_of([9], 9)
    counted = to_numpy(build(chunk_size=chunk_size)(inputs))
    for first, step, same in ((0, 1, True), (500, 1, True), (0, 3, False)):
        positions = first + step * np.arange(9)[None]
        given = to_numpy(model({**inputs, "position_ids": positions}))
        assert np.allclose(given, counted, atol=1e-4) == same


@CHUNKS
def test_saving_is_exact(chunk_size, tmp_path):
    model = build(chunk_size=chunk_size, attention="causal", use_bias=False)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is FLASHBackbone
    assert again.get_config() == model.get_config()
    inputs = inputs_of([7, 3], 7)
    np.testing.assert_array_equal(to_numpy(model(inputs)), to_numpy(again(inputs)))


@CHUNKS
def test_bfloat16_stays_near_float32(chunk_size):
    inputs = inputs_of([24], 24)
    expected = to_numpy(build(chunk_size=chunk_size)(inputs))
    rounded = to_numpy(build(chunk_size=chunk_size, dtype="mixed_bfloat16")(inputs))
    assert np.abs(rounded - expected).max() <= 0.05 * np.abs(expected).max()


@ATTENTIONS
@CHUNKS
def test_compiled_steps_learn_to_see_a_far_token(chunk_size, attention):
    """Every place must name the first token: chunks after the first cannot see it
    but through the linear part."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    model = FLASHBackbone(
        12, 1, 32, 64, key_dim=16, chunk_size=chunk_size, attention=attention
    )
    inputs = keras.Input((11,), dtype="int32")
    logits = keras.layers.Dense(12)(model(inputs))
    learner = keras.Model(inputs, logits)
    learner.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=JIT,
    )
    token_ids = random.integers(6, 12, (512, 11)).astype("int32")
    token_ids[:, 0] = random.integers(1, 6, 512)
    target = np.repeat(token_ids[:, :1], 11, axis=1)
    losses = learner.fit(
        token_ids, target, batch_size=64, epochs=12, verbose=0
    ).history["loss"]
    assert np.isfinite(losses).all()
    # Blind, five equally frequent tokens cost ln 5 = 1.61.
    assert losses[-1] < 0.8, losses


def test_the_masked_lm_head_is_the_tied_embedding():
    backbone = build()
    task = MaskedLM(backbone)
    assert len(task.weights) == len(backbone.weights)
    assert backbone.masked_lm_head_config()["dropout"] == 0.1


def test_without_chunks_it_is_flash_quad():
    units = [
        layer for layer in build(chunk_size=None).layers if layer.name[:4] == "gau_"
    ]
    units = [each for each in units if isinstance(each, GatedAttentionUnit)]
    assert len(units) == 2
    assert units[0].get_config()["normalizer"]["class_name"] == "SquaredReLU"


def test_lora_adapts_the_named_layers():
    model = build()
    model.enable_lora(2)
    assert len(model.trainable_variables) == 2 * 2 * 2


def test_refusals():
    with pytest.raises(ValueError, match="`attention` must be one of bidirectional"):
        build(attention="prefix")
    with pytest.raises(ValueError, match="`chunk_size` must be at least 1"):
        build(chunk_size=0)
    with pytest.raises(ValueError, match="even, positive"):
        build(key_dim=15)
    with pytest.raises(ValueError, match=r"\[0, 50\)"):
        build()(np.array([[1, 50]]))
