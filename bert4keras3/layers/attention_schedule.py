"""Attention schedules: the mask, positions and normalizer of each layer of a model."""

import functools
import json

import keras

from bert4keras3.layers import attention_mask as attention_masks
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.attention_mask import ATTENTION_MASKS, AttentionMask, WindowMask
from bert4keras3.layers.attention_normalizer import EntropyInvariantSoftmax
from bert4keras3.layers.structural_masks import CausalMask, ReverseCausalMask
from bert4keras3.naming import resolve, whole_number


class AttentionSchedule:
    """Base class: a mask for each layer; positions and normalizer stay the default.

    Layers are counted from 0. The same instance of a mask is given to all layers that
    have it, so that a model computes it once.
    """

    def mask(self, layer, num_layers):
        """The `AttentionMask` of a layer.

        Args:
            layer: number of the layer, from 0.
            num_layers: how many layers the model has.
        """
        raise NotImplementedError

    def rotary_embedding(self, layer, num_layers, default):
        """The rotary embedding of a layer, `None` for no positions.

        Args:
            layer, num_layers: see `mask`.
            default: what the model gives to its layers.
        """
        return default

    def normalizer(self, layer, num_layers, default):
        """The normalizer of a layer.

        Args:
            layer, num_layers: see `mask`.
            default: what the model gives to its layers.
        """
        return default

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), json.dumps(self.get_config(), sort_keys=True)))


def _check_layer(layer, num_layers):
    if not 0 <= layer < num_layers:
        raise ValueError(
            f"Layers are counted from 0, so the last of {num_layers} is "
            f"{num_layers - 1}. Received layer={layer}."
        )


@keras.saving.register_keras_serializable(package="bert4keras3")
class Uniform(AttentionSchedule):
    """One mask for all layers; padding and cost are those of the mask.

    Args:
        mask: name, config or instance, see `attention_mask`.

    Raises:
        ValueError: unknown mask, or a layer that does not exist.

    Example:

    >>> type(Uniform("causal").mask(3, num_layers=4)).__name__
    'CausalMask'
    """

    def __init__(self, mask):
        self._mask = attention_masks.get(mask)

    def mask(self, layer, num_layers):
        _check_layer(layer, num_layers)
        return self._mask

    def get_config(self):
        name = _name_of(self._mask)
        return {"mask": attention_masks.serialize(self._mask) if name is None else name}


@keras.saving.register_keras_serializable(package="bert4keras3")
class AlternateLayers(AttentionSchedule):
    """Even layers are causal, odd ones reverse causal: an encoder of triangles.

    `M[i, j] = j <= i` in layers 0, 2, ..., `j >= i` in layers 1, 3, ... Two layers
    together read both ways, and each attention matrix has full rank. Padding is hidden
    as a key; cost `T * S` per layer, as for any full mask.
    Source: https://kexue.fm/archives/9529.

    Raises:
        ValueError: a layer that does not exist.

    Example:

    >>> type(AlternateLayers().mask(1, num_layers=2)).__name__
    'ReverseCausalMask'
    """

    def __init__(self):
        self._masks = (CausalMask(), ReverseCausalMask())

    def mask(self, layer, num_layers):
        _check_layer(layer, num_layers)
        return self._masks[layer % 2]


@keras.saving.register_keras_serializable(package="bert4keras3")
class HWFA(AttentionSchedule):
    """Window attention, but in the last layer full attention without positions.

    Layers `0 .. L-2`: `M[i, j] = 0 <= i - j < window` with the model's positions. Layer
    `L-1`: `M[i, j] = j <= i`, no rotary embedding, and logits scaled by
    `ln(max(n, min_length)) / ln(train_length)`, `n` the keys that the row sees. Then no
    distance beyond training occurs at any length, provided that the windows together,
    `(window - 1) (L - 1) + 1` places, stay within 3/4 of the training length. Padding
    is hidden as a key and does not count in `n`. Cost `2 T window` per layer but the
    last, where it is `T * S`.
    Source: https://kexue.fm/archives/9603 (24 layers, training length 512, window 16).

    Args:
        window: places that a query sees, itself included.
        train_length: length at which the scale of the last layer is 1.
        min_length: floor of `n`.

    Raises:
        ValueError: a bad window or length, or a layer that does not exist.

    Example:

    >>> schedule = HWFA(window=16)
    >>> type(schedule.mask(22, 24)).__name__, type(schedule.mask(23, 24)).__name__
    ('WindowMask', 'CausalMask')
    >>> schedule.rotary_embedding(22, 24, default="rope")
    'rope'
    >>> schedule.rotary_embedding(23, 24, default="rope") is None
    True
    """

    def __init__(self, window=16, train_length=512, min_length=16):
        self._window_mask = WindowMask(window)
        self._causal_mask = CausalMask()
        self._last_normalizer = EntropyInvariantSoftmax(train_length, min_length)
        self.window = self._window_mask.window
        self.train_length = train_length
        self.min_length = min_length

    @classmethod
    def for_training_length(cls, length, num_layers, **arguments):
        """The schedule with the largest window, `(w - 1) (L - 1) + 1 <= 3/4 length`.

        For 24 layers and a length of 512 that is 17; the source rounds it to 16.

        Args:
            length: training length.
            num_layers: layers `L` of the model, at least 2.
            **arguments: others of the class.

        Raises:
            ValueError: a single layer, or a length too short for windows of 2.

        Example:

        >>> HWFA.for_training_length(128, num_layers=4).window
        32
        """
        if num_layers < 2:
            raise ValueError(
                "HWFA has window attention in all layers but the last, so it needs at "
                f"least 2 layers. Received num_layers={num_layers}."
            )
        window = (3 * length // 4 - 1) // (num_layers - 1) + 1
        if window < 2:
            raise ValueError(
                f"With {num_layers} layers and a training length of {length}, a window "
                "would hold the query alone: (w - 1)(L - 1) + 1 <= 3/4 N leaves no "
                "w of 2. Train on longer texts or take fewer layers."
            )
        return cls(window=window, train_length=length, **arguments)

    def _is_full(self, layer, num_layers):
        _check_layer(layer, num_layers)
        return layer == num_layers - 1

    def mask(self, layer, num_layers):
        full = self._is_full(layer, num_layers)
        return self._causal_mask if full else self._window_mask

    def rotary_embedding(self, layer, num_layers, default):
        return None if self._is_full(layer, num_layers) else default

    def normalizer(self, layer, num_layers, default):
        return self._last_normalizer if self._is_full(layer, num_layers) else default

    def get_config(self):
        return {
            "window": self.window,
            "train_length": self.train_length,
            "min_length": self.min_length,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class HWFA2(AttentionSchedule):
    """Window attention, with one or two full layers in the middle that keep positions.

    Of `L` layers, `f` are causal over all keys: the layers `floor(k L / (f + 1))`,
    `k = 1 .. f`, counted from 0, so at `L/2`, or at `L/3` and `2L/3`. The others have
    `M[i, j] = 0 <= i - j < window`. All train with the model's rotary embedding; at
    prediction the full layers switch to `full_rotary_embedding`, in the source ReRoPE.
    The normalizer is the model's everywhere. Padding is hidden as a key. Cost
    `2 T window` per layer, `T * S` in the full ones.
    Source: https://kexue.fm/archives/9731, which finds windows of 2 to 4 times
    `training length / L` best (24 layers, length 512: 32 and 64).

    Args:
        window: places that a query sees, itself included.
        num_full_layers: `f`, 1 or 2 in the source.
        full_rotary_embedding: name, config or instance of the full layers' rotary
            embedding, see `rotary_embedding`, looked up when a layer asks for it;
            `None` for the model's.

    Raises:
        ValueError: a bad window, no full layer or too many, an unknown rotary
            embedding, or a layer that does not exist.

    Example:

    >>> schedule = HWFA2(window=64, num_full_layers=2)
    >>> tuple(layer for layer in range(24) if schedule.is_full(layer, 24))
    (8, 16)
    """

    def __init__(self, window=64, num_full_layers=1, full_rotary_embedding=None):
        self._window_mask = WindowMask(window)
        self._causal_mask = CausalMask()
        self.window = self._window_mask.window
        self.num_full_layers = whole_number(
            num_full_layers,
            "num_full_layers",
            "as windows in all layers are a WindowMask for the mask of the model",
        )
        self.full_rotary_embedding = full_rotary_embedding

    def is_full(self, layer, num_layers):
        """Whether a layer sees all keys before it.

        Args:
            layer: number of the layer, from 0.
            num_layers: how many layers the model has.
        """
        _check_layer(layer, num_layers)
        parts = self.num_full_layers + 1
        if num_layers < parts:
            raise ValueError(
                f"{self.num_full_layers} full layers need a model of at least {parts} "
                f"layers. Received num_layers={num_layers}."
            )
        return layer in {part * num_layers // parts for part in range(1, parts)}

    def mask(self, layer, num_layers):
        full = self.is_full(layer, num_layers)
        return self._causal_mask if full else self._window_mask

    def rotary_embedding(self, layer, num_layers, default):
        if self.full_rotary_embedding is None or not self.is_full(layer, num_layers):
            return default
        # A model hands over a layer, whose policy is that of the model.
        dtype = getattr(default, "dtype_policy", None)
        return rotary_embeddings.get(self.full_rotary_embedding, dtype)

    def get_config(self):
        rotary = self.full_rotary_embedding
        if isinstance(rotary, keras.layers.Layer):
            rotary = rotary_embeddings.serialize(rotary)
        return {
            "window": self.window,
            "num_full_layers": self.num_full_layers,
            "full_rotary_embedding": rotary,
        }


ATTENTION_SCHEDULES = {
    "alternate_layers": AlternateLayers,
    "hwfa": HWFA,
    "hwfa2": HWFA2,
}


def get(identifier):
    """Return a schedule for a name, a config or an instance.

    A name is one of a schedule or of a mask, which all layers then have; likewise a
    config and an instance.

    Raises:
        ValueError: unknown name.
        TypeError: neither a schedule nor a mask.

    Example:

    >>> type(get("prefix")).__name__, type(get("hwfa")).__name__
    ('Uniform', 'HWFA')
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, AttentionMask):
        return Uniform(identifier)
    masks = {name: functools.partial(Uniform, name) for name in ATTENTION_MASKS}
    return resolve(
        identifier,
        {**masks, **ATTENTION_SCHEDULES},
        "attention mask or schedule",
        AttentionSchedule,
    )


def serialize(schedule):
    """What `get` reads back: the name of a mask for all layers, or a config.

    Example:

    >>> serialize(get("causal"))
    'causal'
    """
    if type(schedule) is Uniform:
        name = _name_of(schedule.mask(0, 1))
        if name is not None:
            return name
    return keras.saving.serialize_keras_object(schedule)


def _name_of(mask):
    """The name that makes such a mask, or `None` if that takes arguments."""
    for name, kind in ATTENTION_MASKS.items():
        if type(mask) is kind:
            same = {**mask.get_config(), "name": None}
            return name if same == {**kind().get_config(), "name": None} else None
    return None
