"""The contract, kept by every registered layer, and a check that none is left out."""

import importlib
import pkgutil
from functools import partial

import contract
import keras
import numpy as np
import pytest

from bert4keras3 import layers
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_bias import POSITION_BIASES
from bert4keras3.layers.attention_mask import (
    BidirectionalMask,
    BlockwiseCausalMask,
    CausalMask,
    HalfHeadsMask,
    LambdaMask,
    PrefixMask,
    ReverseCausalMask,
    WindowMask,
)
from bert4keras3.layers.conditional_random_field import (
    ConditionalRandomField,
    MaximumEntropyMarkovModel,
)
from bert4keras3.layers.document_mask import CausalDocumentMask, DocumentMask
from bert4keras3.layers.embedding import Embedding, ReversibleEmbedding
from bert4keras3.layers.feed_forward import FeedForward
from bert4keras3.layers.gated_attention_unit import (
    CrossGatedAttentionUnit,
    GatedAttentionUnit,
)
from bert4keras3.layers.global_pointer import EfficientGlobalPointer, GlobalPointer
from bert4keras3.layers.head_convolution import HeadConvolution
from bert4keras3.layers.linear_attention import LinearAttention
from bert4keras3.layers.mixed_chunk_attention import MixedChunkAttentionUnit
from bert4keras3.layers.mixed_chunk_multi_head import MixedChunkMultiHeadAttention
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.normalization import (
    ConditionalLayerNormalization,
    ConditionalScaleOffset,
    RMSNorm,
    ScaleOffset,
)
from bert4keras3.layers.pooler import Pooler
from bert4keras3.layers.pooling import (
    AttentionPooling,
    FirstTokenPooling,
    MaskedAveragePooling,
    MaskedMaxPooling,
)
from bert4keras3.layers.position_embedding import (
    PositionEmbedding,
    SinusoidalPositionEmbedding,
)
from bert4keras3.layers.position_sampler import (
    EqualMeanBetaPositions,
    EqualMeanExponentialPositions,
    RandomPositions,
)
from bert4keras3.layers.position_weighting import POSITION_WEIGHTINGS
from bert4keras3.layers.recompute import Dropout
from bert4keras3.layers.rotary_embedding import ROTARY_EMBEDDINGS, RotaryEmbedding
from bert4keras3.layers.rotary_general import RotaryEmbedding2D
from bert4keras3.layers.transformer_layer import TransformerLayer

# Lengths are 7 and 5 (see contract.LENGTHS); the last row of every mask is all
# padding, so a NaN in such a row would reach every weight in the training step.
B, T, S = 3, 7, 5
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype("float32")


def padding(length):
    return np.arange(length) < np.array([[length], [3], [0]])


X = normal(B, T, 12)
CONDITION = normal(B, 6)
SEGMENTS = np.array([[0] * 4 + [1] * 3, [0, 1, 1, 0, 0, 0, 0], [0] * T], "int32")
POSITIONS = np.tile(np.arange(T, dtype="int32") * 3, (B, 1))
SELF_ATTENTION = {
    "padding_mask": padding(T),
    "attention_mask": np.tril(np.ones((B, T, T), bool)),
    "attention_bias": normal(B, 1, T, T),
}
CROSS_ATTENTION = {
    "key": normal(B, S, 10),
    "value": normal(B, S, 8),
    "padding_mask": padding(S),
    "attention_bias": normal(B, 1, T, S),
    "query_positions": POSITIONS,
    "key_positions": POSITIONS[:, :S],
}
MASK = {"padding_mask": padding(T), "segment_ids": SEGMENTS}
LABELLED = {
    "logits": normal(B, T, 4),
    "labels": rng.integers(0, 4, (B, T)).astype("int32"),
    "padding_mask": padding(T),
}
# Excluded spans hold -1e9, too much for the head of the training step.
SPANS = {"num_labels": 2, "head_dim": 6, "exclude_reversed": False}
GAU = {"intermediate_dim": 16, "key_dim": 6, "rotary_embedding": "rope"}

# Class -> constructor arguments and call arguments.
ROWS = {
    DotProductAttention: (
        {"normalizer": "softmax_plus", "rotary_embedding": "rope"},
        {
            "query": normal(B, 2, T, 6),
            "key": normal(B, 2, S, 6),
            "value": normal(B, 2, S, 4),
            "attention_mask": padding(S)[:, None, None, :],
        },
    ),
    BidirectionalMask: ({}, MASK),
    CausalMask: ({}, MASK),
    PrefixMask: ({}, MASK),
    DocumentMask: ({}, MASK),
    CausalDocumentMask: ({}, MASK),
    WindowMask: ({"window": 2, "two_way": True}, MASK),
    LambdaMask: ({"window": 2, "num_sinks": 3}, MASK),
    BlockwiseCausalMask: ({"block": 2}, MASK),
    ReverseCausalMask: ({}, MASK),
    HalfHeadsMask: ({"num_heads": 4}, MASK),
    RandomPositions: (
        {"max_position": 20, "per_layer": True, "seed": 1},
        {"padding_mask": padding(T)},
    ),
    EqualMeanExponentialPositions: (
        {"per_sequence": False},
        {"padding_mask": padding(T)},
    ),
    EqualMeanBetaPositions: (
        {"prediction_length": 20, "alpha": 2.0},
        {"padding_mask": padding(T)},
    ),
    FeedForward: ({"intermediate_dim": 16, "activation": ["gelu", "tanh"]}, {"x": X}),
    GatedAttentionUnit: (
        {**GAU, "normalizer": "softmax_plus"},
        {"x": X, **SELF_ATTENTION, "positions": POSITIONS},
    ),
    CrossGatedAttentionUnit: (GAU, {"query": X, **CROSS_ATTENTION}),
    HeadConvolution: (
        {"width": 4},
        {"x": normal(B, 2, T, 6), "padding_mask": padding(T)},
    ),
    LinearAttention: (
        {"num_heads": 3, "causal": True, "chunk_size": 3},
        {"x": X, "padding_mask": padding(T), "positions": POSITIONS},
    ),
    MixedChunkAttentionUnit: (
        {**GAU, "chunk_size": 3, "causal": True},
        {"x": X, "padding_mask": padding(T), "positions": POSITIONS},
    ),
    MixedChunkMultiHeadAttention: (
        {"num_heads": 3, "chunk_size": 3, "causal": True},
        {"x": X, "padding_mask": padding(T), "positions": POSITIONS},
    ),
    MultiHeadAttention: (
        {
            "num_heads": 2,
            "head_dim": 4,
            "key_dim": 6,
            "output_dim": 9,
            "rotary_embedding": "rope",
        },
        {"query": X, **CROSS_ATTENTION},
    ),
    ScaleOffset: ({}, {"x": X}),
    ConditionalScaleOffset: (
        {"hidden_dim": 4, "activation": "tanh"},
        {"x": X, "condition": CONDITION},
    ),
    RMSNorm: ({"epsilon": 1e-5}, {"x": X}),
    ConditionalLayerNormalization: (
        {"hidden_dim": 4, "zero_mean": False},
        {"x": X, "condition": CONDITION},
    ),
    Pooler: ({"activation": "linear"}, {"x": X}),
    PositionEmbedding: (
        {"max_sequence_length": 20},
        {"x": X, "positions": POSITIONS},
    ),
    SinusoidalPositionEmbedding: (
        {"merge": "concatenate", "embedding_dim": 8},
        {"x": X, "positions": POSITIONS},
    ),
    MaskedAveragePooling: ({}, {"x": X, "padding_mask": padding(T)}),
    MaskedMaxPooling: ({}, {"x": X, "padding_mask": padding(T)}),
    FirstTokenPooling: ({}, {"x": X, "padding_mask": padding(T)}),
    AttentionPooling: ({}, {"x": X, "padding_mask": padding(T)}),
    GlobalPointer: (SPANS, {"x": X, "positions": POSITIONS}),
    EfficientGlobalPointer: (SPANS, {"x": X, "positions": POSITIONS}),
    ConditionalRandomField: ({"lr_multiplier": 2.0}, LABELLED),
    MaximumEntropyMarkovModel: ({"hidden_dim": 2, "lr_multiplier": 2.0}, LABELLED),
    RotaryEmbedding: (
        {"max_wavelength": 500.0, "interleaved": False},
        {"x": X, "positions": POSITIONS},
    ),
    RotaryEmbedding2D: (
        {"max_wavelength": 500.0},
        {"x": X, "positions": np.stack([POSITIONS, POSITIONS % 4], axis=-1)},
    ),
    TransformerLayer: (
        {
            "num_heads": 3,
            "intermediate_dim": 16,
            "rotary_embedding": "rope",
            "normalizer": "softmax_plus",
        },
        {
            "x": X,
            "attention_mask": SELF_ATTENTION["attention_mask"][:, None],
            "positions": POSITIONS,
        },
    ),
}

# Logits with a mask in them, losses and positions are float32 under every policy.
IN_FLOAT32 = {
    ConditionalRandomField,
    EqualMeanBetaPositions,
    EqualMeanExponentialPositions,
    RandomPositions,
    EfficientGlobalPointer,
    GlobalPointer,
    MaximumEntropyMarkovModel,
}


# Layers that are parts of an attention, by the argument that takes them: they are
# tested in an attention of theirs.
SCHEMES = {
    "position_bias": POSITION_BIASES,
    "position_weighting": POSITION_WEIGHTINGS,
    "rotary_embedding": ROTARY_EMBEDDINGS,
}
SCHEME_ROWS = [
    pytest.param((argument, name), id=f"{argument}={name}")
    for argument, table in SCHEMES.items()
    for name in table
]
# They compute what Keras's own do; see test_embedding.py and test_recompute.py.
AS_IN_KERAS = {Dropout, Embedding, ReversibleEmbedding}
TENSORFLOW = keras.backend.backend() == "tensorflow"


def scheme_classes():
    makers = [make for table in SCHEMES.values() for make in table.values()]
    return {getattr(make, "func", make) for make in makers}


def layer_classes():
    """Every layer class that a module of `bert4keras3.layers` defines."""
    found = set()
    for module in pkgutil.walk_packages(layers.__path__, "bert4keras3.layers."):
        for value in vars(importlib.import_module(module.name)).values():
            if (
                isinstance(value, type)
                and issubclass(value, keras.layers.Layer)
                and value.__module__.startswith("bert4keras3.layers.")
            ):
                found.add(value)
    return found


def test_every_layer_keeps_the_contract():
    found = layer_classes()
    assert len(found) >= 18
    registered = {
        each
        for each in found
        if keras.saving.get_registered_name(each).startswith("bert4keras3>")
    }
    for base in found - registered:
        assert any(issubclass(each, base) for each in registered), f"{base} is left out"
    assert registered == set(ROWS) | scheme_classes() | AS_IN_KERAS


def make_row(which):
    if isinstance(which, tuple):
        argument, name = which
        arguments, arrays = ROWS[DotProductAttention]
        return partial(DotProductAttention, **{**arguments, argument: name}), arrays
    arguments, arrays = ROWS[which]
    return partial(which, **arguments), arrays


ROW_PARAMS = [pytest.param(which, id=which.__name__) for which in ROWS]


@pytest.fixture(params=[*ROW_PARAMS, *SCHEME_ROWS])
def any_row(request):
    return make_row(request.param)


# Schemes are tested in low precision far out by tests of their own.
@pytest.fixture(params=[*ROW_PARAMS, *SCHEME_ROWS * TENSORFLOW])
def row(request):
    return make_row(request.param)


# What a config, a promised shape or a file holds does not depend on the backend.
@pytest.mark.tensorflow
def test_config(any_row):
    contract.check_config(*any_row)


@pytest.mark.tensorflow
def test_symbolic_shape(any_row):
    contract.check_symbolic_shape(*any_row)


def test_dtype_policies(row):
    make, arrays = row
    contract.check_dtype_policies(make, arrays, in_float32=make.func in IN_FLOAT32)


def test_training_step(any_row):
    contract.check_training_step(*any_row)


@pytest.mark.tensorflow
def test_saving(any_row, tmp_path):
    contract.check_saving(*any_row, tmp_path)


def test_symbolic_shape_of_the_extras_of_attention():
    for layer in (MultiHeadAttention, DotProductAttention):
        arguments, arrays = ROWS[layer]
        contract.check_symbolic_shape(
            partial(layer, **arguments),
            arrays,
            return_logits=True,
            return_weights=True,
        )
