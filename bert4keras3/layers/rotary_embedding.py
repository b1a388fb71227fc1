"""Rotary position embedding: positions that act on the product of query and key."""

import keras
from keras import ops

from bert4keras3.naming import resolve_scheme, serialize_scheme
from bert4keras3.ops import (
    inverse_frequencies,
    places_or_given,
    rotate_half_split,
    rotate_interleaved,
    rotation_angles,
)


@keras.saving.register_keras_serializable(package="bert4keras3")
class RotaryEmbedding(keras.layers.Layer):
    """Rotary position embedding, RoPE.

    The pair `i` of a vector at position `p` is turned by the angle
    `p * max_wavelength ** (-2 i / dim)`, so that the product of a query at `m` and a
    key at `n` depends on `m - n` only. There is no table: any length, and any integer
    or float positions, work. Angles are float32 under every dtype policy.

    Sources: https://arxiv.org/abs/2104.09864, https://kexue.fm/archives/8265.

    A variant overrides `frequencies` (interpolation, NTK, YaRN) or `scores` (schemes
    that need more than one product, such as ReRoPE); attention layers call `scores`.
    `needs_causal_mask` says that a variant is right only where no key follows its
    query, and `follows_length` that its `scores` depend on the length of the row and
    take the `largest_position` of it, where they see a block only.

    Args:
        max_wavelength: base of the frequencies.
        interleaved: pairs `(2i, 2i+1)`, as in all released RoFormer, RoFormerV2 and
            GAU-α weights; `False` pairs `(i, i + dim/2)`.

    Call arguments:
        x: tensor `(B, L, dim)` or `(B, N, L, dim)`; `dim` must be even.
        positions: `None` for `0 .. L-1`, or `(L,)` or `(B, L)`, integer or float.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        ValueError: odd `dim`.

    Example:

    >>> rope = RotaryEmbedding()
    >>> tuple(rope(np.ones((1, 3, 8), "float32")).shape)
    (1, 3, 8)
    """

    # Whether a model has one for all its layers, or one in each.
    shared_by_layers = True
    needs_causal_mask = False
    follows_length = False

    def __init__(self, max_wavelength=10000.0, interleaved=True, **kwargs):
        # Float positions must not be cast to the compute dtype on the way in.
        super().__init__(autocast=False, **kwargs)
        if max_wavelength <= 0:
            raise ValueError(
                f"`max_wavelength` must be positive. Received {max_wavelength}."
            )
        self.max_wavelength = max_wavelength
        self.interleaved = interleaved
        self.built = True

    def frequencies(self, dim):
        """float64 array `(dim / 2,)` of radians per position."""
        return inverse_frequencies(dim, self.max_wavelength)

    def rotate(self, x, positions=None):
        """Rotate `x` of shape `(B, ..., L, dim)` by its positions."""
        positions = self.positions_of(x, positions)
        return self.turn(x, rotation_angles(positions, self.frequencies(x.shape[-1])))

    def positions_of(self, x, positions=None):
        """float32 positions of `x`, counted from 0 if none are given."""
        return places_or_given(ops.shape(x)[-2], positions)

    def turn(self, x, angles):
        """Rotate `x`, `(B, ..., L, dim)`, by `(L, dim / 2)` or `(B, L, dim / 2)`."""
        if len(angles.shape) == 3:
            # (B, L, dim/2) -> (B, 1, ..., L, dim/2): one angle for all heads.
            for _ in range(len(x.shape) - 3):
                angles = ops.expand_dims(angles, 1)
        rotation = rotate_interleaved if self.interleaved else rotate_half_split
        return rotation(x, angles)

    def scores(self, query, key, query_positions=None, key_positions=None):
        """Logits `(B, N, T, S)` of `(B, N, T, dim)` queries, `(B, N, S, dim)` keys."""
        query = self.rotate(query, query_positions)
        key = self.rotate(key, key_positions)
        return ops.matmul(query, ops.swapaxes(key, -1, -2))

    def call(self, x, positions=None):
        return self.rotate(ops.cast(x, self.compute_dtype), positions)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "interleaved": self.interleaved,
        }


# Every module of variants adds its own names; `layers/__init__.py` imports them all.
ROTARY_EMBEDDINGS = {"rope": RotaryEmbedding}


def get(identifier, dtype=None):
    """Return a rotary embedding for a name, a config or an instance; `None` is NoPE."""
    return resolve_scheme(
        identifier,
        ROTARY_EMBEDDINGS,
        "rotary embedding",
        RotaryEmbedding,
        dtype=dtype,
        name="rotary_embedding",
    )


def get_rotation(identifier, dtype=None):
    """`get`, for layers that rotate queries and keys and take other products.

    Raises:
        ValueError: a scheme that overrides `scores`.
    """
    scheme = get(identifier, dtype)
    if scheme is not None and type(scheme).scores is not RotaryEmbedding.scores:
        raise ValueError(
            f"{type(scheme).__name__} computes the scores of queries and keys itself, "
            "but linear attention never forms them: it sums keys times values first. "
            "Use a scheme that only rotates, such as 'rope'."
        )
    return scheme


def serialize(rotary_embedding):
    """Config of a rotary embedding that `get` reads back."""
    return serialize_scheme(rotary_embedding)
