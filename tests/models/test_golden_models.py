"""Every model fixture of the original code, loaded from its released folder."""

import keras
import numpy as np
import pytest
from golden_cases import (
    HIDDEN_TOLERANCE,
    LOGITS_TOLERANCE,
    MODELS,
    TORCH,
    batches,
    compute,
    load_arguments,
    model_cases,
    model_inputs,
    read_case,
    to_numpy,
    variants,
)

import zoo
from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax

CLASSES = {
    "gau_alpha": "GAUAlphaBackbone",
    "roformer_v2": "RoFormerV2Backbone",
}


def test_there_are_fixtures_of_every_family():
    assert {"gau_alpha", "roformer", "roformer_v2", "roformer_sim", "roformer_gpt"} <= (
        set(model_cases())
    )
    assert len(variants()) >= 20


@pytest.mark.parametrize("case", model_cases())
def test_architecture_is_found_from_the_folder_alone(case):
    model = zoo.load(MODELS / case)
    assert type(model).__name__ == CLASSES.get(case, "RoFormerBackbone")


@pytest.mark.parametrize("case,tag", variants(), ids=map("-".join, variants()))
def test_outputs_equal_the_original(case, tag):
    arguments = load_arguments(case, tag)
    spec = next(each for each in read_case(case)["variants"] if each["tag"] == tag)
    compared = 0
    for output in spec["outputs"]:
        for batch in batches(case).values():
            key = f"{tag}__{output}"
            if key not in batch:
                continue
            inputs = model_inputs(batch)
            if not arguments.get("use_position_ids"):
                inputs.pop("position_ids", None)
            result = compute(MODELS / case, output, inputs, **arguments)
            expected = batch[key]
            if output == "logits" and result.shape != expected.shape:
                result = result[:, batch["positions"]]
            tolerance = LOGITS_TOLERANCE if output == "logits" else HIDDEN_TOLERANCE
            np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)
            compared += 1
    assert compared, "no batch of the fixtures holds this variant"


@pytest.mark.parametrize("case", ["gau_alpha", "roformer", "roformer_v2"])
def test_every_block_equals_the_original(case):
    model = zoo.load(MODELS / case)
    blocks = {"Embedding-Norm": "embeddings_norm"}
    for i in range(model.num_layers):
        blocks[f"Transformer-{i}-GatedAttentionUnit-Norm"] = f"gau_{i}_norm"
        blocks[f"Transformer-{i}-FeedForward-Norm"] = f"transformer_layer_{i}"
    compared = set()
    for batch in batches(case).values():
        stored = {
            key.removeprefix("layer__"): value
            for key, value in batch.items()
            if key.startswith("layer__")
        }
        if not stored:
            continue
        inner = keras.Model(
            model.inputs,
            {name: model.get_layer(blocks[name]).output for name in stored},
        )
        inputs = {
            key: np.asarray(value, "int32")
            for key, value in model_inputs(batch).items()
            if key != "position_ids"
        }
        for name, value in inner(inputs).items():
            np.testing.assert_allclose(
                to_numpy(value), stored[name], rtol=0, atol=HIDDEN_TOLERANCE
            )
            compared.add(name)
    assert len(compared) == model.num_layers + 1


@pytest.mark.parametrize("case", ["gau_alpha", "roformer"])
def test_gradients_equal_the_original(case):
    """Gradients of `sum(hidden * R)` for every variable of the checkpoint."""
    model = zoo.load(MODELS / case, dropout=0.0, attention_dropout=0.0)
    batch = batches(case)["len33"]
    inputs = {
        key: keras.ops.convert_to_tensor(np.asarray(value, "int32"))
        for key, value in model_inputs(batch).items()
        if key != "position_ids"
    }
    ours = dict(
        zip(
            (variable.path for variable in model.trainable_variables),
            gradients(model, inputs, batch["grad_R"]),
            strict=True,
        )
    )
    from bert4keras3.models.weight_map import expand

    rows = {}
    for row in expand(type(model).weight_maps["tf1"], model.num_layers):
        rows.setdefault(row.released, []).append(row)
    with np.load(MODELS / case / "grads_len33_encoder.npz") as stored:
        names = [name for name in stored.files if name.startswith("grad:")]
        assert len(names) > 5
        for name in names:
            released = name.removeprefix("grad:").replace("|", "/")
            pieces = [ours[row.ours] for row in rows[released]]
            result = np.concatenate(pieces, axis=-1)
            expected = stored[name]
            np.testing.assert_allclose(
                result, expected, rtol=0, atol=1e-3 * np.abs(expected).max()
            )


def gradients(model, inputs, direction):
    """Gradients of `sum(model(inputs) * direction)`, on whichever backend this is."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs, training=False) * direction)
        found = tape.gradient(loss, [v.value for v in model.trainable_variables])
        return [tf.convert_to_tensor(each).numpy() for each in found]
    if backend == "jax":
        import jax

        def loss(trainable):
            outputs, _ = model.stateless_call(
                trainable, [v.value for v in model.non_trainable_variables], inputs
            )
            return (outputs * direction).sum()

        found = jax.grad(loss)([v.value for v in model.trainable_variables])
        return [np.asarray(each) for each in found]
    import torch

    model.zero_grad()
    outputs = model(inputs, training=False)
    (outputs * torch.from_numpy(direction)).sum().backward()
    return [v.value.grad.cpu().numpy() for v in model.trainable_variables]


def test_bert4keras_0_11_4_is_the_same_model_without_the_floor():
    model = zoo.load(
        MODELS / "gau_alpha", normalizer=EntropyInvariantSoftmax(min_length=1)
    )
    with np.load(MODELS / "gau_alpha/encoder_hidden_bert4keras_0.11.4.npz") as stored:
        for name, batch in batches("gau_alpha").items():
            if f"{name}__hidden" not in stored:
                continue
            inputs = model_inputs(batch)
            inputs.pop("position_ids", None)
            np.testing.assert_allclose(
                to_numpy(model(inputs)),
                stored[f"{name}__hidden"],
                rtol=0,
                atol=HIDDEN_TOLERANCE,
            )


@pytest.mark.parametrize(
    "case", [case for case in model_cases() if (MODELS / case / "mirror").exists()]
)
def test_the_mirror_layout_holds_the_same_weights(case):
    released = zoo.load(MODELS / case)
    mirror = zoo.load(MODELS / case, weights=MODELS / case / "mirror")
    for ours, theirs in zip(released.weights, mirror.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("case", sorted(path.name for path in TORCH.iterdir()))
def test_torch_fixtures(case, file):
    """Outputs of the mirrors' own torch code, from the mirrors' own files."""
    arguments = {"weights": TORCH / case / file}
    if case == "gau_alpha_junnyu":
        # The mirror's code has no floor under n.
        arguments["normalizer"] = EntropyInvariantSoftmax(min_length=1)
    if case == "roformer_sim_junnyu":
        # Its first pass is bidirectional.
        arguments["attention"] = "bidirectional"
    # epsilon 1e-12 is read from config.json
    with np.load(TORCH / case / "cases.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    names = sorted({key.split("__")[0] for key in arrays} - {"inc"})
    assert len(names) >= 3
    lm = zoo.load(TORCH / case, task="masked_lm", preprocessor=None, **arguments)
    for name in names:
        visible = arrays[f"{name}__attention_mask"] == 1
        inputs = {
            "token_ids": arrays[f"{name}__input_ids"],
            "segment_ids": arrays[f"{name}__token_type_ids"],
            "padding_mask": arrays[f"{name}__attention_mask"],
        }
        outputs = lm.backbone(inputs)
        if isinstance(outputs, dict):
            np.testing.assert_allclose(
                to_numpy(outputs["pooled"]),
                arrays[f"{name}__pooler_output"],
                rtol=0,
                atol=HIDDEN_TOLERANCE,
            )
            outputs = outputs["hidden_states"]
        np.testing.assert_allclose(
            to_numpy(outputs)[visible],
            arrays[f"{name}__last_hidden_state"][visible],
            rtol=0,
            atol=HIDDEN_TOLERANCE,
        )
        logits = to_numpy(lm(inputs))
        if f"{name}__positions" in arrays:
            logits = logits[:, arrays[f"{name}__positions"]]
            visible = visible[:, arrays[f"{name}__positions"]]
        np.testing.assert_allclose(
            logits[visible],
            arrays[f"{name}__logits"][visible],
            rtol=0,
            atol=LOGITS_TOLERANCE,
        )


def test_prefix_attention_equals_step_by_step_decoding():
    """RoFormer-Sim's cached decoding of the mirror, in one pass with a prefix mask."""
    folder = TORCH / "roformer_sim_junnyu"
    with np.load(folder / "cases.npz") as stored:
        prompt, continuation = stored["inc__prompt"], stored["inc__continuation"]
        expected = stored["inc__step_logits"]
    model = zoo.load(folder, task="masked_lm", preprocessor=None, attention="prefix")
    token_ids = np.concatenate([prompt, continuation], axis=1)
    segment_ids = np.zeros_like(token_ids)
    segment_ids[:, prompt.shape[1] :] = 1
    logits = to_numpy(
        model(
            {
                "token_ids": token_ids,
                "segment_ids": segment_ids,
                "padding_mask": np.ones_like(token_ids),
            }
        )
    )
    np.testing.assert_allclose(
        logits[:, prompt.shape[1] - 1 :], expected, rtol=0, atol=LOGITS_TOLERANCE
    )
