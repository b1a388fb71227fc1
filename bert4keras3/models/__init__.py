"""Backbones: one architecture per file, with its weight map beside the class."""

from bert4keras3.models.backbone import Backbone
from bert4keras3.models.bert import BertBackbone
from bert4keras3.models.flash import FLASHBackbone
from bert4keras3.models.gau_alpha import GAUAlphaBackbone
from bert4keras3.models.roformer import RoFormerBackbone
from bert4keras3.models.roformer_v2 import RoFormerV2Backbone

__all__ = [
    "Backbone",
    "BertBackbone",
    "FLASHBackbone",
    "GAUAlphaBackbone",
    "RoFormerBackbone",
    "RoFormerV2Backbone",
]
