"""Layers for TensorFlow, JAX and PyTorch, and the variants that they find by name."""

from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_bias import NezhaBias, ShawBias, T5Bias
from bert4keras3.layers.attention_mask import (
    AttentionMask,
    BidirectionalMask,
    CausalMask,
    PrefixMask,
    WindowMask,
)
from bert4keras3.layers.attention_normalizer import (
    AttentionNormalizer,
    EntropyInvariantSoftmax,
    Softmax,
    SquaredReLU,
)
from bert4keras3.layers.conditional_random_field import (
    ConditionalRandomField,
    MaximumEntropyMarkovModel,
)
from bert4keras3.layers.feed_forward import FeedForward
from bert4keras3.layers.gated_attention_unit import (
    CrossGatedAttentionUnit,
    GatedAttentionUnit,
)
from bert4keras3.layers.global_pointer import EfficientGlobalPointer, GlobalPointer
from bert4keras3.layers.initializer import DepthScaledTruncatedNormal
from bert4keras3.layers.linear_attention import LinearAttention
from bert4keras3.layers.mixed_chunk_attention import MixedChunkAttentionUnit
from bert4keras3.layers.multi_head_attention import MultiHeadAttention
from bert4keras3.layers.normalization import (
    ConditionalLayerNormalization,
    ConditionalScaleOffset,
    RMSNorm,
    ScaleOffset,
)
from bert4keras3.layers.pooler import Pooler
from bert4keras3.layers.pooling import MaskedAveragePooling, MaskedMaxPooling
from bert4keras3.layers.position_embedding import (
    PositionEmbedding,
    SinusoidalPositionEmbedding,
)
from bert4keras3.layers.position_weighting import PositionWeighting, ToeplitzWeighting
from bert4keras3.layers.query_key_norm import QueryKeyNorm
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.transformer_layer import TransformerLayer

__all__ = [
    "AttentionMask",
    "AttentionNormalizer",
    "BidirectionalMask",
    "CausalMask",
    "ConditionalLayerNormalization",
    "ConditionalRandomField",
    "ConditionalScaleOffset",
    "CrossGatedAttentionUnit",
    "DepthScaledTruncatedNormal",
    "DotProductAttention",
    "EfficientGlobalPointer",
    "EntropyInvariantSoftmax",
    "FeedForward",
    "GatedAttentionUnit",
    "GlobalPointer",
    "LinearAttention",
    "MaskedAveragePooling",
    "MaskedMaxPooling",
    "MaximumEntropyMarkovModel",
    "MixedChunkAttentionUnit",
    "MultiHeadAttention",
    "NezhaBias",
    "Pooler",
    "PositionEmbedding",
    "PositionWeighting",
    "PrefixMask",
    "QueryKeyNorm",
    "RMSNorm",
    "RotaryEmbedding",
    "ScaleOffset",
    "ShawBias",
    "SinusoidalPositionEmbedding",
    "Softmax",
    "SquaredReLU",
    "T5Bias",
    "ToeplitzWeighting",
    "TransformerLayer",
    "WindowMask",
]
