"""BERT against a NumPy forward pass over Google's variable names.

No fixture of the original exists for BERT, so the reference is written from the paper,
in float64, and reads the released names directly: it shares nothing with the library.
"""

import json
import math

import numpy as np
import pytest
from golden_cases import to_numpy

import zoo
from zoo.checkpoints import write_safetensors, write_tf1

SIZES = {"vocab": 40, "hidden": 24, "inner": 48, "layers": 2, "heads": 3, "table": 20}


def released_variables(seed=0):
    random = np.random.default_rng(seed)
    d, e = SIZES["hidden"], SIZES["inner"]
    shapes = {
        "bert/embeddings/word_embeddings": (SIZES["vocab"], d),
        "bert/embeddings/position_embeddings": (SIZES["table"], d),
        "bert/embeddings/token_type_embeddings": (2, d),
        "bert/pooler/dense/kernel": (d, d),
        "bert/pooler/dense/bias": (d,),
        "cls/predictions/transform/dense/kernel": (d, d),
        "cls/predictions/transform/dense/bias": (d,),
        "cls/predictions/output_bias": (SIZES["vocab"],),
        "cls/seq_relationship/output_weights": (2, d),
        "cls/seq_relationship/output_bias": (2,),
    }
    norms = ["bert/embeddings/LayerNorm", "cls/predictions/transform/LayerNorm"]
    for i in range(SIZES["layers"]):
        layer = f"bert/encoder/layer_{i}"
        for name, shape in {
            "attention/self/query": (d, d),
            "attention/self/key": (d, d),
            "attention/self/value": (d, d),
            "attention/output/dense": (d, d),
            "intermediate/dense": (d, e),
            "output/dense": (e, d),
        }.items():
            shapes[f"{layer}/{name}/kernel"] = shape
            shapes[f"{layer}/{name}/bias"] = shape[1:]
        norms += [f"{layer}/attention/output/LayerNorm", f"{layer}/output/LayerNorm"]
    variables = {
        name: 0.4 * random.normal(size=shape) for name, shape in shapes.items()
    }
    for norm in norms:
        variables[f"{norm}/gamma"] = 1 + 0.3 * random.normal(size=d)
        variables[f"{norm}/beta"] = 0.3 * random.normal(size=d)
    return {name: value.astype("float32") for name, value in variables.items()}


def dense(v, name, x):
    return x @ v[f"{name}/kernel"].astype("float64") + v[f"{name}/bias"]


def layer_norm(v, name, x):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    normed = (x - mean) / np.sqrt(variance + 1e-12)
    return normed * v[f"{name}/gamma"] + v[f"{name}/beta"]


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def bert(v, token_ids, segment_ids, mask):
    """Hidden states of every row, one row, one head at a time."""
    outputs = []
    size = SIZES["hidden"] // SIZES["heads"]
    for ids, segments, visible in zip(token_ids, segment_ids, mask, strict=True):
        x = (
            v["bert/embeddings/word_embeddings"][ids].astype("float64")
            + v["bert/embeddings/token_type_embeddings"][segments]
            + v["bert/embeddings/position_embeddings"][: len(ids)]
        )
        x = layer_norm(v, "bert/embeddings/LayerNorm", x)
        for i in range(SIZES["layers"]):
            layer = f"bert/encoder/layer_{i}"
            q, k, value = (
                dense(v, f"{layer}/attention/self/{name}", x)
                for name in ("query", "key", "value")
            )
            heads = []
            for h in range(SIZES["heads"]):
                part = slice(h * size, (h + 1) * size)
                scores = q[:, part] @ k[:, part].T / math.sqrt(size)
                weights = np.exp(scores - scores.max(-1, keepdims=True)) * visible
                weights /= weights.sum(-1, keepdims=True)
                heads.append(weights @ value[:, part])
            attended = dense(
                v, f"{layer}/attention/output/dense", np.concatenate(heads, -1)
            )
            x = layer_norm(v, f"{layer}/attention/output/LayerNorm", x + attended)
            inner = gelu(dense(v, f"{layer}/intermediate/dense", x))
            fed = dense(v, f"{layer}/output/dense", inner)
            x = layer_norm(v, f"{layer}/output/LayerNorm", x + fed)
        outputs.append(x)
    return np.stack(outputs)


@pytest.fixture
def folder(tmp_path):
    config = {
        "vocab_size": SIZES["vocab"],
        "hidden_size": SIZES["hidden"],
        "intermediate_size": SIZES["inner"],
        "num_hidden_layers": SIZES["layers"],
        "num_attention_heads": SIZES["heads"],
        "max_position_embeddings": SIZES["table"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "directionality": "bidi",
    }
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    write_tf1(tmp_path / "bert_model.ckpt", released_variables())
    return tmp_path


@pytest.fixture
def inputs():
    random = np.random.default_rng(3)
    mask = np.arange(9) < np.array([[9], [5], [1]])
    return {
        "token_ids": (random.integers(1, SIZES["vocab"], mask.shape) * mask).astype(
            "int32"
        ),
        "segment_ids": (np.arange(9) > 3) * mask.astype("int32"),
        "padding_mask": mask,
    }


def test_hidden_states(folder, inputs):
    model = zoo.load(folder)
    assert type(model).__name__ == "BertBackbone"
    expected = bert(released_variables(), *inputs.values())
    np.testing.assert_allclose(to_numpy(model(inputs)), expected, atol=1e-4)


def test_pooler_and_both_heads(folder, inputs):
    v = released_variables()
    hidden = bert(v, *inputs.values())
    pooled = np.tanh(dense(v, "bert/pooler/dense", hidden[:, 0]))
    model = zoo.load(folder, pooler="tanh")
    np.testing.assert_allclose(to_numpy(model(inputs)["pooled"]), pooled, atol=1e-4)

    lm = zoo.load(folder, task="masked_lm")
    x = gelu(dense(v, "cls/predictions/transform/dense", hidden))
    x = layer_norm(v, "cls/predictions/transform/LayerNorm", x)
    logits = x @ v["bert/embeddings/word_embeddings"].T
    logits = logits + v["cls/predictions/output_bias"]
    np.testing.assert_allclose(to_numpy(lm(inputs)), logits, atol=3e-4)

    nsp = zoo.load(folder, task="next_sentence", pooler="tanh")
    expected = pooled @ v["cls/seq_relationship/output_weights"].T
    expected = expected + v["cls/seq_relationship/output_bias"]
    np.testing.assert_allclose(to_numpy(nsp(inputs)), expected, atol=1e-4)


@pytest.mark.parametrize(
    "prefix,norm",
    [
        ("bert.", ("weight", "bias")),
        ("bert.", ("gamma", "beta")),
        ("", ("weight", "bias")),
    ],
)
def test_torch_names(folder, inputs, tmp_path_factory, norm, prefix):
    """The names that google-bert/bert-base-chinese and its like use."""
    torch = {}
    for name, value in released_variables().items():
        kernel = name.endswith("kernel")
        name = name.replace("layer_", "layer.").replace("/", ".")
        name = name.replace("_embeddings", "_embeddings.weight")
        name = name.replace("kernel", "weight")
        if "LayerNorm" in name:
            name = name.replace("gamma", norm[0]).replace("beta", norm[1])
        name = name.replace("predictions.output_bias", "predictions.bias")
        name = name.replace(
            "seq_relationship.output_weights", "seq_relationship.weight"
        )
        name = name.replace("seq_relationship.output_bias", "seq_relationship.bias")
        if prefix or not name.startswith("cls"):
            torch[name.replace("bert.", prefix, 1)] = value.T if kernel else value
    torch["cls.predictions.decoder.weight"] = torch[
        f"{prefix}embeddings.word_embeddings.weight"
    ]
    torch[f"{prefix}embeddings.position_ids"] = np.arange(20)[None]
    target = tmp_path_factory.mktemp("torch")
    (target / "config.json").write_bytes((folder / "bert_config.json").read_bytes())
    write_safetensors(target / "model.safetensors", torch)
    np.testing.assert_allclose(
        to_numpy(zoo.load(target)(inputs)),
        to_numpy(zoo.load(folder)(inputs)),
        atol=1e-6,
    )
