"""Properties of the backbones that a comparison of shapes cannot see."""

import keras
import numpy as np
import pytest
from golden_cases import to_numpy

import zoo
from bert4keras3.models.bert import BertBackbone
from bert4keras3.models.gau_alpha import GAUAlphaBackbone
from bert4keras3.models.roformer import RoFormerBackbone
from bert4keras3.models.roformer_v2 import RoFormerV2Backbone
from bert4keras3.tasks.masked_lm import MaskedLM
from zoo.checkpoints import CheckpointError

HEADS = {"num_heads": 4}
BACKBONES = {
    "gau_alpha": (GAUAlphaBackbone, {"key_dim": 16}),
    "roformer": (RoFormerBackbone, HEADS),
    "roformer_v2": (RoFormerV2Backbone, HEADS),
    "bert": (BertBackbone, {**HEADS, "max_sequence_length": 64}),
}
FAMILIES = pytest.mark.parametrize("family", sorted(BACKBONES))
ROTARY = pytest.mark.parametrize("family", ["gau_alpha", "roformer", "roformer_v2"])


def build(family, **arguments):
    backbone_class, extra = BACKBONES[family]
    model = backbone_class(
        **{
            "vocabulary_size": 50,
            "num_layers": 2,
            "hidden_dim": 32,
            "intermediate_dim": 64,
            **extra,
            **arguments,
        }
    )
    # Released weights are not small: make attention peaked and offsets visible.
    random = np.random.default_rng(0)
    for weight in model.weights:
        scale = 1.0 if weight.path.endswith(("scale", "gamma")) else 0.3
        centre = 1.0 if scale == 1.0 else 0.0
        weight.assign(centre + scale * random.normal(size=weight.shape))
    return model


def inputs_of(lengths, width, seed=0, vocabulary_size=50):
    random = np.random.default_rng(seed)
    mask = np.arange(width) < np.array(lengths)[:, None]
    token_ids = random.integers(1, vocabulary_size, mask.shape) * mask
    return {
        "token_ids": token_ids.astype("int32"),
        "segment_ids": np.zeros(mask.shape, "int32"),
        "padding_mask": mask,
    }


@FAMILIES
@pytest.mark.parametrize("attention", ["bidirectional", "causal", "prefix"])
def test_padding_content_changes_no_real_position(family, attention):
    model = build(family, attention=attention)
    inputs = inputs_of([5, 12, 1], 12)
    mask = inputs["padding_mask"]
    other = dict(inputs)
    noise = np.random.default_rng(1).integers(1, 50, mask.shape)
    other["token_ids"] = np.where(mask, inputs["token_ids"], noise).astype("int32")
    one, two = to_numpy(model(inputs)), to_numpy(model(other))
    assert np.abs(one[~mask] - two[~mask]).max() > 0.1, "the noise must do something"
    np.testing.assert_allclose(one[mask], two[mask], rtol=0, atol=1e-5)


@FAMILIES
@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)], ids=["hidden", "weights"])
def test_dropout_acts_while_training_alone(family, rates):
    model = build(family, dropout=rates[0], attention_dropout=rates[1])
    inputs = inputs_of([7, 4], 7)
    one, two = (to_numpy(model(inputs, training=True)) for _ in range(2))
    assert np.abs(one - two).max() > 0.1
    assert np.abs(one - to_numpy(model(inputs))).max() > 0.1
    np.testing.assert_array_equal(
        to_numpy(model(inputs)), to_numpy(model(inputs, training=False))
    )


@FAMILIES
def test_padded_length_changes_no_real_position(family):
    model = build(family)
    inputs = inputs_of([7, 4], 7)
    long = {key: np.pad(value, ((0, 0), (0, 25))) for key, value in inputs.items()}
    mask = inputs["padding_mask"]
    np.testing.assert_allclose(
        to_numpy(model(inputs))[mask], to_numpy(model(long))[:, :7][mask], atol=1e-5
    )


@FAMILIES
def test_rows_of_a_batch_do_not_see_each_other(family):
    model = build(family)
    inputs = inputs_of([9, 9, 6], 9)
    alone = {key: value[1:2] for key, value in inputs.items()}
    np.testing.assert_allclose(
        to_numpy(model(inputs))[1:2], to_numpy(model(alone)), atol=1e-5
    )


@FAMILIES
def test_a_causal_row_never_sees_the_future(family):
    model = build(family, attention="causal")
    inputs = inputs_of([10], 10)
    changed = {key: value.copy() for key, value in inputs.items()}
    changed["token_ids"][:, 6:] = 7
    one, two = to_numpy(model(inputs)), to_numpy(model(changed))
    np.testing.assert_allclose(one[:, :6], two[:, :6], atol=1e-5)
    assert np.abs(one[:, 6:] - two[:, 6:]).max() > 0.1


def test_a_causal_row_with_one_key_under_log_n_without_floor():
    """ln(1) = 0 would let every key in, were the mask scaled with the logits."""
    from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax

    model = build(
        "gau_alpha",
        attention="causal",
        normalizer=EntropyInvariantSoftmax(min_length=1),
    )
    inputs = inputs_of([10], 10)
    changed = {key: value.copy() for key, value in inputs.items()}
    changed["token_ids"][:, 1:] = 7
    one, two = to_numpy(model(inputs)), to_numpy(model(changed))
    np.testing.assert_allclose(one[:, 0], two[:, 0], atol=1e-5)


@FAMILIES
def test_prefix_attention_reads_segment_0_in_both_directions(family):
    model = build(family, attention="prefix")
    inputs = inputs_of([10], 10)
    inputs["segment_ids"][:, 5:] = 1
    changed = {key: value.copy() for key, value in inputs.items()}
    changed["token_ids"][:, 7:] = 7
    one, two = to_numpy(model(inputs)), to_numpy(model(changed))
    np.testing.assert_allclose(one[:, :7], two[:, :7], atol=1e-5)
    changed["token_ids"][:, 4] = 8
    three = to_numpy(model(changed))
    assert np.abs(three[:, 0] - two[:, 0]).max() > 1e-3


@ROTARY
def test_shifting_all_positions_changes_nothing(family):
    model = build(family, use_position_ids=True)
    inputs = inputs_of([12], 12)
    inputs["position_ids"] = np.arange(12)[None]
    one = to_numpy(model(inputs))
    inputs["position_ids"] = np.arange(12)[None] + 1000
    np.testing.assert_allclose(to_numpy(model(inputs)), one, atol=1e-4)
    inputs["position_ids"] = np.arange(12)[None] * 3
    assert np.abs(to_numpy(model(inputs)) - one).max() > 0.05


@ROTARY
def test_counted_positions_equal_given_ones(family):
    counted, given = build(family), build(family, use_position_ids=True)
    inputs = inputs_of([12, 9], 12)
    with_ids = {**inputs, "position_ids": np.tile(np.arange(12), (2, 1))}
    np.testing.assert_allclose(
        to_numpy(counted(inputs)), to_numpy(given(with_ids)), atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
@ROTARY
def test_bfloat16_follows_float32_to_position_4095(family, dtype):
    """Rounded positions would turn 4094 and 4095 by the same angle."""
    arguments = {"use_position_ids": True, "num_layers": 1}
    exact, rounded = build(family, **arguments), build(family, dtype=dtype, **arguments)
    inputs = inputs_of([24], 24)
    inputs["position_ids"] = np.arange(4072, 4096)[None]
    expected = to_numpy(exact(inputs))
    error = np.abs(to_numpy(rounded(inputs)) - expected)
    assert error.max() < 0.05 * np.abs(expected).max()
    # What rounding the positions to bfloat16 would have done is far larger.
    inputs["position_ids"] = np.full((1, 24), 4096)
    blurred = np.abs(to_numpy(exact(inputs)) - expected)
    assert blurred.max() > 4 * error.max()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "mixed_float16"])
@FAMILIES
def test_a_row_of_padding_is_finite(family, dtype):
    model = build(family, dtype=dtype)
    inputs = inputs_of([6, 0], 6)
    assert np.isfinite(to_numpy(model(inputs))).all()


@FAMILIES
def test_missing_inputs_are_filled_in(family):
    model = build(family)
    inputs = inputs_of([6, 3], 6)
    expected = to_numpy(model(inputs))
    ids = inputs["token_ids"]
    for given in (ids, {"token_ids": ids}):
        np.testing.assert_allclose(to_numpy(model(given)), expected, atol=1e-6)
    np.testing.assert_allclose(
        model.predict({"token_ids": ids}, verbose=0), expected, atol=1e-5
    )


@FAMILIES
def test_bad_ids_are_refused(family):
    model = build(family)
    with pytest.raises(ValueError, match=r"\[0, 50\).*50"):
        model(np.array([[1, 50]]))
    with pytest.raises(ValueError, match="-1"):
        model.predict({"token_ids": np.array([[1, -1]])}, verbose=0)
    with pytest.raises(TypeError, match="integers.*float"):
        model({"token_ids": np.array([[1.0, 2.0]])})
    with pytest.raises(ValueError, match="segment_ids"):
        model({"token_ids": np.array([[1]]), "segment_ids": np.array([[2]])})
    with pytest.raises(ValueError, match="token_ids"):
        model({"segment_ids": np.array([[0]])})
    with pytest.raises(ValueError, match="unknown_key"):
        model({"token_ids": np.array([[1]]), "unknown_key": np.array([[1]])})


def test_positions_must_match_the_way_the_model_was_built():
    ids = np.array([[1, 2]])
    with pytest.raises(ValueError, match="use_position_ids=True"):
        build("gau_alpha")({"token_ids": ids, "position_ids": ids})
    with pytest.raises(ValueError, match="position_ids"):
        build("gau_alpha", use_position_ids=True)({"token_ids": ids})


def test_bert_refuses_texts_beyond_its_table():
    model = build("bert")
    with pytest.raises(ValueError, match="position table of 64"):
        model(np.ones((1, 65), "int32"))


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="even"):
        build("gau_alpha", key_dim=15)
    with pytest.raises(ValueError, match="multiple of `num_heads`"):
        build("roformer", num_heads=5)


@pytest.mark.parametrize("family", ["roformer", "bert"])
def test_pooler_reads_the_first_position(family):
    model = build(family, pooler="tanh")
    outputs = model(inputs_of([6, 3], 6))
    first = to_numpy(outputs["hidden_states"])[:, 0]
    dense = model.get_layer("pooler").dense
    kernel, bias = to_numpy(dense.kernel), to_numpy(dense.bias)
    np.testing.assert_allclose(
        to_numpy(outputs["pooled"]), np.tanh(first @ kernel + bias), atol=1e-5
    )


@FAMILIES
def test_factorised_embeddings(family, tmp_path):
    """A narrow embedding is widened once, and narrowed again before the output."""
    model = build(family, embedding_dim=12)
    inputs = inputs_of([6, 3], 6)
    assert model(inputs).shape == (2, 6, 32)
    shapes = {w.path: tuple(w.shape) for w in model.weights}
    assert shapes["token_embedding/embeddings"] == (50, 12)
    assert shapes["embeddings_projection/kernel"] == (12, 32)
    lm = MaskedLM(model)
    assert lm(inputs).shape == (2, 6, 50)
    hidden, table = to_numpy(model(inputs)), to_numpy(model.token_embedding.embeddings)
    if not lm.head.transform:
        kernel = to_numpy(lm.head.output_projection.kernel)
        np.testing.assert_allclose(
            to_numpy(lm(inputs)), hidden @ kernel @ table.T, atol=1e-4
        )
    # The backbone goes out in the released layout and comes back.
    folder = zoo.save(model, tmp_path / "out")
    again = zoo.load(folder)
    np.testing.assert_allclose(to_numpy(again(inputs)), hidden, atol=1e-5)
    if not lm.head.transform:
        with pytest.raises(CheckpointError, match="output_projection"):
            zoo.load(folder, task="masked_lm")


@FAMILIES
def test_config_round_trip(family):
    model = build(family, attention="causal", dtype="mixed_bfloat16", dropout=0.2)
    config = keras.saving.serialize_keras_object(model)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(model)
    assert copy.get_config() == model.get_config()
    assert [w.path for w in copy.weights] == [w.path for w in model.weights]


@FAMILIES
def test_saving_is_exact(family, tmp_path):
    model = build(family, attention="prefix", use_position_ids=family != "bert")
    inputs = inputs_of([6, 3], 6)
    if model.use_position_ids:
        inputs["position_ids"] = np.tile(np.arange(6), (2, 1))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(model(inputs)), to_numpy(copy(inputs)))
    model.save_weights(tmp_path / "model.weights.h5")
    other = type(model).from_config(model.get_config())
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(to_numpy(model(inputs)), to_numpy(other(inputs)))


@FAMILIES
def test_lora_trains_exactly_its_own_matrices(family):
    model = build(family)
    inputs = inputs_of([6, 3], 6)
    before = to_numpy(model(inputs))
    frozen = {w.path: to_numpy(w) for w in model.weights}
    model.enable_lora(2)
    paths = [w.path for w in model.trainable_variables]
    adapted = len(model.lora_layers) * model.num_layers
    assert len(paths) == 2 * adapted
    assert all("lora_kernel" in path for path in paths)
    np.testing.assert_allclose(to_numpy(model(inputs)), before, atol=1e-6)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(inputs, np.zeros(before.shape), epochs=3, verbose=0)
    for weight in model.weights:
        if weight.path in frozen:
            np.testing.assert_array_equal(to_numpy(weight), frozen[weight.path])
    assert np.abs(to_numpy(model(inputs)) - before).max() > 1e-4


def test_lora_on_an_unknown_layer_names_the_known_ones():
    with pytest.raises(ValueError, match="gate_dense"):
        build("gau_alpha").enable_lora(2, layers=["queries"])


@FAMILIES
def test_one_step_compiles_with_xla_and_the_loss_falls(family):
    model = build(family, dropout=0.1)
    model.compile(
        keras.optimizers.Adam(1e-2),
        "mse",
        jit_compile=keras.backend.backend() != "torch",
    )
    inputs = inputs_of([8, 5, 8, 3], 8)
    target = np.random.default_rng(3).normal(size=(4, 8, 32))
    history = model.fit(inputs, target, epochs=12, batch_size=4, verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]


@FAMILIES
def test_initial_weights_of_equal_shape_differ(family):
    backbone_class, extra = BACKBONES[family]
    model = backbone_class(
        50, num_layers=2, hidden_dim=32, intermediate_dim=64, **extra
    )
    kernels = [to_numpy(w) for w in model.weights if w.path.endswith("kernel")]
    assert len(kernels) >= 8
    for i, one in enumerate(kernels):
        for other in kernels[i + 1 :]:
            assert one.shape != other.shape or not np.array_equal(one, other)
