"""Schedules: which mask, positions and normalizer each layer of a model has.

A schedule has three hooks, asked once per layer when a model is built. A new schedule
is one class, and a line in `SCHEDULES` if it should have a name. Masks are schedules
too: `get` takes the name of a mask for the same mask in all layers.
"""

import keras

from bert4keras3.layers import attention_mask as attention_masks
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.attention_mask import (
    ATTENTION_MASKS,
    AttentionMask,
    CausalMask,
    ReverseCausalMask,
)
from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax
from bert4keras3.layers.local_mask import WindowMask
from bert4keras3.naming import resolve


class AttentionSchedule:
    """Base class: `mask` to be written, positions and normalizer as the model has them.

    Layers are counted from 0 to `num_layers - 1`.
    """

    def mask(self, layer, num_layers):
        """The `AttentionMask` of a layer."""
        raise NotImplementedError

    def rotary_embedding(self, layer, num_layers, default):
        """The rotary embedding of a layer, or `None`; `default` is the model's."""
        return default

    def normalizer(self, layer, num_layers, default):
        """The normalizer of a layer; `default` is the model's."""
        return default

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="bert4keras3")
class Uniform(AttentionSchedule):
    """One mask for all layers.

    Args:
        every_mask: name, config or instance, see `attention_mask`.

    Example:

    >>> type(Uniform("causal").mask(3, 12)).__name__
    'CausalMask'
    """

    def __init__(self, every_mask):
        self.every_mask = attention_masks.get(every_mask)

    def mask(self, layer, num_layers):
        return self.every_mask

    def get_config(self):
        return {"every_mask": attention_masks.serialize(self.every_mask)}


@keras.saving.register_keras_serializable(package="bert4keras3")
class AlternateLayers(AttentionSchedule):
    """Forward and backward in turn: layers 0, 2, 4 ... causal, the others reversed.

    Each matrix of attention weights is triangular and so of full rank, and the model
    still reads in both directions. Source: https://kexue.fm/archives/9529.

    Example:

    >>> [type(AlternateLayers().mask(i, 2)).__name__ for i in range(2)]
    ['CausalMask', 'ReverseCausalMask']
    """

    def mask(self, layer, num_layers):
        return ReverseCausalMask() if layer % 2 else CausalMask()


@keras.saving.register_keras_serializable(package="bert4keras3")
class HWFA(AttentionSchedule):
    """Hybrid window-full attention: windows in all layers but the last.

    The last layer sees everything before it, without rotary positions and with log-n
    scaled logits: `softmax(ln n / ln(train_length) * s Q K^T)`. No distance beyond the
    window is ever rotated, so none is new at greater lengths. A causal model; the
    window layers cost `T * window`, the last `T * T`. Its reach in windows,
    `(window - 1) * (num_layers - 1) + 1`, should stay below three quarters of the
    length of training; `for_training_length` takes the largest such window.
    Source: https://kexue.fm/archives/9603.

    Args:
        window: keys that a query of a window layer sees, itself included.
        train_length: length at which the scale of the last layer is 1.
        min_length: floor of `n`, at least 1.

    Example:

    >>> HWFA.for_training_length(512, num_layers=24).window
    17
    """

    def __init__(self, window=16, train_length=512, min_length=1):
        self.window = WindowMask(window).window
        self.train_length = train_length
        self.min_length = min_length

    @classmethod
    def for_training_length(cls, train_length, num_layers, share=0.75):
        """The schedule with the largest window whose reach is a share of the length."""
        if num_layers < 2:
            raise ValueError(
                f"A hybrid of window and full layers needs at least 2. Received "
                f"num_layers={num_layers}."
            )
        window = int((share * train_length - 1) / (num_layers - 1)) + 1
        return cls(window, train_length)

    def mask(self, layer, num_layers):
        full = layer == num_layers - 1
        return CausalMask() if full else WindowMask(self.window)

    def rotary_embedding(self, layer, num_layers, default):
        return None if layer == num_layers - 1 else default

    def normalizer(self, layer, num_layers, default):
        if layer < num_layers - 1:
            return default
        return EntropyInvariantSoftmax(self.train_length, self.min_length)

    def get_config(self):
        return {
            "window": self.window,
            "train_length": self.train_length,
            "min_length": self.min_length,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class HWFA2(AttentionSchedule):
    """HWFA with wider windows and full layers amid them, which keep their positions.

    One full layer stands at `num_layers / 2`, two at `1/3` and `2/3`. The full layers
    are trained with the model's rotary embedding; for longer texts, load the model with
    `full_rotary_embedding="rerope"`, which does not turn beyond its window. All layers
    are causal. Source: https://kexue.fm/archives/9731, whose best windows are 2 to 4
    times the length of training over the number of layers.

    Args:
        window: keys that a query of a window layer sees, itself included.
        num_full_layers: how many, less than the model has.
        full_rotary_embedding: name, config or instance for the full layers; `None` for
            the model's own.

    Raises:
        ValueError: fewer layers in the model than full ones.
    """

    def __init__(self, window=64, num_full_layers=1, full_rotary_embedding=None):
        if num_full_layers < 1:
            raise ValueError(
                f"`num_full_layers` must be at least 1. Received {num_full_layers}."
            )
        self.window = WindowMask(window).window
        self.num_full_layers = num_full_layers
        self.full_rotary_embedding = rotary_embeddings.get(full_rotary_embedding)

    def is_full(self, layer, num_layers):
        if num_layers <= self.num_full_layers:
            raise ValueError(
                f"A model of {num_layers} layers has no room for windows beside "
                f"{self.num_full_layers} full layers. Take fewer of these."
            )
        parts = self.num_full_layers + 1
        return layer in {i * num_layers // parts for i in range(1, parts)}

    def mask(self, layer, num_layers):
        full = self.is_full(layer, num_layers)
        return CausalMask() if full else WindowMask(self.window)

    def rotary_embedding(self, layer, num_layers, default):
        own = self.full_rotary_embedding
        return default if own is None or not self.is_full(layer, num_layers) else own

    def get_config(self):
        return {
            "window": self.window,
            "num_full_layers": self.num_full_layers,
            "full_rotary_embedding": rotary_embeddings.serialize(
                self.full_rotary_embedding
            ),
        }


SCHEDULES = {
    "alternate_layers": AlternateLayers,
    "hwfa": HWFA,
    "hwfa2": HWFA2,
}


def get(identifier):
    """Return a schedule for a name, a config or an instance, of a schedule or a mask.

    Raises:
        ValueError: unknown name; the text names the nearest and all of them.
        TypeError: neither a name, a config, a schedule nor a mask.
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, AttentionMask):
        return Uniform(identifier)
    uniform = {name: lambda name=name: Uniform(name) for name in ATTENTION_MASKS}
    table = {**uniform, **SCHEDULES}
    return resolve(identifier, table, "attention mask or schedule", AttentionSchedule)


def serialize(schedule):
    """What `get` reads back: a name where one says it all, else a config."""
    if isinstance(schedule, Uniform):
        for name, make in ATTENTION_MASKS.items():
            if type(schedule.every_mask) is make:
                return name
        return attention_masks.serialize(schedule.every_mask)
    for name, make in SCHEDULES.items():
        plain = type(schedule) is make and schedule.get_config() == make().get_config()
        if plain:
            return name
    return keras.saving.serialize_keras_object(schedule)
