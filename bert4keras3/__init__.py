"""bert4keras3: RoFormer, RoFormerV2 and GAU-α for Keras 3."""

__version__ = "0.1.0"
