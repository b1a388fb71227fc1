"""Position schemes that act after the normalizer, as factors of its weights."""

import keras
from keras import ops

from bert4keras3.layers.attention_bias import key_offsets
from bert4keras3.naming import resolve_scheme, serialize_scheme
from bert4keras3.ops import take_rows


class PositionWeighting(keras.layers.Layer):
    """Base class: `O = weigh(A, ...) V`.

    A subclass with weights makes them in `build`, from the shape `(B, N, T, H)` of the
    query. Hidden keys have weight 0 before the hook and keep it if the hook multiplies.
    """

    # Whether a model has one for all its layers, or one in each.
    shared_by_layers = True

    def __init__(self, **kwargs):
        # Positions must not be cast to the compute dtype on the way in.
        super().__init__(autocast=False, **kwargs)

    def build(self, query_shape, value_shape=None):
        self.built = True

    def get_config(self):
        # For schemes without arguments of their own: Keras's default would refuse.
        return super().get_config()

    def weigh(self, weights, query_positions=None, key_positions=None):
        """New weights of the shape of the old.

        Args:
            weights: float32 `(B, N, T, S)`, normalized.
            query_positions, key_positions: `None` for `0 .. L-1`, or `(L,)` or
                `(B, L)`.
        """
        raise NotImplementedError

    def call(self, weights, query_positions=None, key_positions=None):
        return self.weigh(weights, query_positions, key_positions)


@keras.saving.register_keras_serializable(package="bert4keras3")
class ToeplitzWeighting(PositionWeighting):
    """URPE: a trained factor per distance on the normalized weights.

    `A'_ij = g[clip(j - i, -max_distance, max_distance)] * A_ij`, with `g = 1` at the
    start, so that a fresh layer changes nothing. The rows no longer sum to one, which
    lets a model of relative positions know absolute ones. Cost: `T * S` look-ups and
    products. Hidden keys keep weight 0, so padding needs no care.

    Sources: https://arxiv.org/abs/2205.13401, https://kexue.fm/archives/9105. The
    official code keeps one table for all layers, and so do backbones; attention layers
    share what is given to them as one instance.

    Args:
        max_distance: largest distance that is told apart.
        share_heads: one factor for all heads instead of one each.
        shared_by_layers: one table for all layers of a backbone instead of one each.

    Raises:
        ValueError: `max_distance` below 1.

    Example:

    >>> weights = np.ones((1, 2, 3, 3), "float32") / 3
    >>> urpe = ToeplitzWeighting(8)
    >>> urpe.build((None, 2, 3, 4))  # two heads
    >>> bool(np.allclose(urpe(weights), weights))
    True
    """

    def __init__(
        self, max_distance=128, share_heads=False, shared_by_layers=True, **kwargs
    ):
        super().__init__(**kwargs)
        if max_distance < 1:
            raise ValueError(
                f"`max_distance` must be at least 1. Received {max_distance}."
            )
        self.max_distance = max_distance
        self.share_heads = share_heads
        self.shared_by_layers = shared_by_layers

    def build(self, query_shape, value_shape=None):
        self.factors = self.add_weight(
            name="factors",
            shape=(
                2 * self.max_distance + 1,
                1 if self.share_heads else query_shape[1],
            ),
            initializer="ones",
            autocast=False,
        )

    def weigh(self, weights, query_positions=None, key_positions=None):
        offsets = key_offsets(
            *ops.shape(weights)[-2:],
            query_positions,
            key_positions,
            limit=self.max_distance,
        )
        table = ops.cast(ops.convert_to_tensor(self.factors), "float32")
        factors = ops.moveaxis(take_rows(table, offsets), -1, -3)
        return weights * factors  # ([B], N, T, S)

    def get_config(self):
        return {
            **super().get_config(),
            "max_distance": self.max_distance,
            "share_heads": self.share_heads,
            "shared_by_layers": self.shared_by_layers,
        }


POSITION_WEIGHTINGS = {"urpe": ToeplitzWeighting}


def get(identifier, dtype=None):
    """Return a position weighting for a name, a config or an instance."""
    return resolve_scheme(
        identifier,
        POSITION_WEIGHTINGS,
        "position weighting",
        PositionWeighting,
        dtype=dtype,
        name="position_weighting",
    )


def serialize(weighting):
    """Config of a position weighting that `get` reads back."""
    return serialize_scheme(weighting)
