"""Layers for TensorFlow, JAX and PyTorch, and the variants that they find by name."""

from bert4keras3.layers.activation import squared_relu
from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.attention_bias import NezhaBias, PositionBias, ShawBias, T5Bias
from bert4keras3.layers.attention_mask import (
    BlockwiseCausalMask,
    LambdaMask,
    LocalMask,
    WindowMask,
)
from bert4keras3.layers.attention_normalizer import (
    AttentionNormalizer,
    EntropyInvariantSoftmax,
    Softmax,
    SquaredReLU,
)
from bert4keras3.layers.attention_normalizer_variants import (
    Exponential,
    GradientMaximizingSoftmax,
    L2Normalized,
    Laplace,
    NaturalLogSoftmax,
    NormalizedSquaredReLU,
    PredictionLogSoftmax,
    SwishL2,
)
from bert4keras3.layers.attention_schedule import (
    HWFA,
    HWFA2,
    AlternateLayers,
    AttentionSchedule,
    Uniform,
)
from bert4keras3.layers.conditional_random_field import (
    ConditionalRandomField,
    MaximumEntropyMarkovModel,
)
from bert4keras3.layers.distance_bias import (
    ALiBi,
    KERPLELog,
    KERPLELog3,
    KERPLEPower,
    Sandwich,
    WithinBounds,
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
from bert4keras3.layers.initializer import DepthScaledTruncatedNormal
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
    EqualMeanPositions,
    PositionSampler,
    RandomPositions,
)
from bert4keras3.layers.position_weighting import PositionWeighting, ToeplitzWeighting
from bert4keras3.layers.query_key_norm import (
    CosineNorm,
    KeyNorm,
    QueryKeyNorm,
    QueryNorm,
)
from bert4keras3.layers.recompute import Dropout
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.rotary_frequencies import (
    AdjustedBaseFrequency,
    DynamicNTK,
    LinearInterpolation,
    NTKFixed,
    NTKMixed,
    NTKRoPE,
    YaRN,
)
from bert4keras3.layers.rotary_general import (
    ExponentialRotation,
    OrthogonalRotation,
    RotaryEmbedding2D,
)
from bert4keras3.layers.rotary_products import (
    XPOS,
    InvLeakyReRoPE,
    LeakyReRoPE,
    ReRoPE,
    SelfExtend,
)
from bert4keras3.layers.structural_masks import (
    AttentionMask,
    BidirectionalMask,
    CausalMask,
    HalfHeadsMask,
    PrefixMask,
    ReverseCausalMask,
)
from bert4keras3.layers.transformer_layer import TransformerLayer
from bert4keras3.layers.transformer_xl import TransformerXLBias

__all__ = [
    "ALiBi",
    "AdjustedBaseFrequency",
    "AlternateLayers",
    "AttentionMask",
    "AttentionNormalizer",
    "AttentionPooling",
    "AttentionSchedule",
    "BidirectionalMask",
    "BlockwiseCausalMask",
    "CausalDocumentMask",
    "CausalMask",
    "ConditionalLayerNormalization",
    "ConditionalRandomField",
    "ConditionalScaleOffset",
    "CosineNorm",
    "CrossGatedAttentionUnit",
    "DepthScaledTruncatedNormal",
    "DocumentMask",
    "DotProductAttention",
    "Dropout",
    "DynamicNTK",
    "EfficientGlobalPointer",
    "Embedding",
    "EntropyInvariantSoftmax",
    "EqualMeanBetaPositions",
    "EqualMeanExponentialPositions",
    "EqualMeanPositions",
    "Exponential",
    "ExponentialRotation",
    "FeedForward",
    "FirstTokenPooling",
    "GatedAttentionUnit",
    "GlobalPointer",
    "GradientMaximizingSoftmax",
    "HWFA",
    "HWFA2",
    "HalfHeadsMask",
    "HeadConvolution",
    "InvLeakyReRoPE",
    "KERPLELog",
    "KERPLELog3",
    "KERPLEPower",
    "KeyNorm",
    "L2Normalized",
    "LambdaMask",
    "Laplace",
    "LeakyReRoPE",
    "LinearAttention",
    "LinearInterpolation",
    "LocalMask",
    "MaskedAveragePooling",
    "MaskedMaxPooling",
    "MaximumEntropyMarkovModel",
    "MixedChunkAttentionUnit",
    "MixedChunkMultiHeadAttention",
    "MultiHeadAttention",
    "NTKFixed",
    "NTKMixed",
    "NTKRoPE",
    "NaturalLogSoftmax",
    "NezhaBias",
    "NormalizedSquaredReLU",
    "OrthogonalRotation",
    "Pooler",
    "PositionBias",
    "PositionEmbedding",
    "PositionSampler",
    "PositionWeighting",
    "PredictionLogSoftmax",
    "PrefixMask",
    "QueryKeyNorm",
    "QueryNorm",
    "RMSNorm",
    "RandomPositions",
    "ReRoPE",
    "ReverseCausalMask",
    "ReversibleEmbedding",
    "RotaryEmbedding",
    "RotaryEmbedding2D",
    "Sandwich",
    "ScaleOffset",
    "SelfExtend",
    "ShawBias",
    "SinusoidalPositionEmbedding",
    "Softmax",
    "SquaredReLU",
    "SwishL2",
    "T5Bias",
    "ToeplitzWeighting",
    "TransformerLayer",
    "TransformerXLBias",
    "Uniform",
    "WindowMask",
    "WithinBounds",
    "XPOS",
    "YaRN",
    "squared_relu",
]
