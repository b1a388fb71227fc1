"""Rows that are looked up several times take the step of the sum of their gradients."""

import keras
import numpy as np
import pytest
from contract import to_numpy
from keras import ops

from bert4keras3.layers import Embedding, NezhaBias, ReversibleEmbedding, T5Bias
from bert4keras3.layers.conditional_random_field import ConditionalRandomField
from bert4keras3.models import (
    BertBackbone,
    FLASHBackbone,
    GAUAlphaBackbone,
    RoFormerBackbone,
    RoFormerV2Backbone,
)
from bert4keras3.ops import take_rows

IDS = np.array([[0, 0, 0, 1]], "int32")
TARGETS = np.array([[[1.0, 2.0], [3.0, -1.0], [2.0, 5.0], [1.0, 1.0]]], "float32")
RATE, BETA_1, BETA_2, NORM = 0.1, 0.9, 0.999, 1.0


def adam(steps):
    """Adam with a clipped norm by its formulas, from a table of zeros."""
    table, m, v = np.zeros((3, 2)), 0.0, 0.0
    for step in range(1, steps + 1):
        gradient = np.zeros_like(table)
        np.add.at(gradient, IDS[0], 2 * (table[IDS[0]] - TARGETS[0]) / TARGETS.size)
        gradient *= NORM / max(np.linalg.norm(gradient), NORM)
        m = BETA_1 * m + (1 - BETA_1) * gradient
        v = BETA_2 * v + (1 - BETA_2) * gradient**2
        mean, square = m / (1 - BETA_1**step), v / (1 - BETA_2**step)
        table = table - RATE * mean / (np.sqrt(square) + 1e-12)
    return table


@pytest.mark.parametrize("layer", [Embedding, ReversibleEmbedding])
def test_repeated_rows_take_the_steps_of_adam(layer):
    embedding = layer(3, 2, embeddings_initializer="zeros")
    model = keras.Sequential([keras.Input((4,), dtype="int32"), embedding])
    model.compile(
        keras.optimizers.Adam(RATE, epsilon=1e-12, global_clipnorm=NORM), "mse"
    )
    for _ in range(5):
        model.train_on_batch(IDS, TARGETS)
    np.testing.assert_allclose(to_numpy(embedding.embeddings), adam(5), atol=1e-5)


def test_rows_of_any_shape():
    table = np.arange(12.0, dtype="float32").reshape(4, 3)
    ids = np.array([[3, 0], [1, 1]], "int32")
    np.testing.assert_array_equal(to_numpy(take_rows(table, ids)), table[ids])


MAKERS = {
    "gau_alpha": lambda **o: GAUAlphaBackbone(30, 1, 16, 32, key_dim=8, **o),
    "roformer": lambda **o: RoFormerBackbone(30, 1, 2, 16, 32, **o),
    "roformer_v2": lambda **o: RoFormerV2Backbone(30, 1, 2, 16, 32, **o),
    "bert": lambda **o: BertBackbone(30, 1, 2, 16, 32, **o),
    "flash": lambda **o: FLASHBackbone(30, 1, 16, 32, key_dim=8, chunk_size=4, **o),
}
SCHEMES = {
    "t5": {"position_bias": T5Bias()},
    "nezha": {"position_bias": NezhaBias()},
    "urpe": {"position_weighting": "urpe"},
}
CASES = [(kind, "none") for kind in MAKERS]
CASES += [(k, s) for k in ("gau_alpha", "roformer", "roformer_v2") for s in SCHEMES]


def check_dense(model, function):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = ops.sum(function() ** 2)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert gradients and not any(g is None for g in gradients)
    lists = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if isinstance(gradient, tf.IndexedSlices)
    ]
    assert not lists


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind, scheme", CASES)
def test_no_backbone_has_lists_of_rows_as_gradients(kind, scheme):
    model = MAKERS[kind](**SCHEMES.get(scheme, {}))
    ids = np.array([[5, 6, 5, 7]], "int32")

    def states():
        outputs = model({"token_ids": ids})
        return outputs["hidden_states"] if isinstance(outputs, dict) else outputs

    check_dense(model, states)


@pytest.mark.tensorflow
def test_no_chain_has_lists_of_rows_as_gradients():
    layer = ConditionalRandomField()
    x = np.random.default_rng(0).normal(size=(1, 4, 3)).astype("float32")
    layer(x)
    labels, mask = np.array([[0, 1, 1, 2]], "int32"), np.ones((1, 4), "bool")
    check_dense(layer, lambda: layer.loss(labels, x, mask))
