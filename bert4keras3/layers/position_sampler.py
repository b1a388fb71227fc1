"""Positions drawn while training, so that short texts teach a model far ones.

A sampler gives float32 positions for the `positions` argument of attention and position
layers. A new one is a class with `training_positions`, and a line in
`POSITION_SAMPLERS`.
"""

import keras
from keras import ops

from bert4keras3.naming import lookup, resolve_scheme, serialize_scheme, whole_number


class PositionSampler(keras.layers.Layer):
    """Base class: positions `(B, T)`, drawn while training.

    Args:
        per_layer: a wish to the model: new draws for every layer. The sampler itself
            draws anew at every call.
        per_sequence: a draw for each sequence; otherwise one draw for the batch, so
            that sequences of the same number of tokens have the same positions.
        seed: integer seed of the draws; a loaded model starts with it again.

    Call arguments:
        padding_mask: `(B, T)`, true or 1 where the position holds a token.
        training: draw; otherwise the positions of prediction.

    Returns:
        float32 `(B, T)` under every dtype policy.
    """

    def __init__(self, per_layer=False, per_sequence=True, seed=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.per_layer = per_layer
        self.per_sequence = per_sequence
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def training_positions(self, padding_mask):
        """Positions that are drawn, float32 `(B, T)`; the mask is boolean."""
        raise NotImplementedError

    def prediction_positions(self, padding_mask):
        """Positions without training, float32, by default `0 .. T-1`."""
        batch, length = ops.shape(padding_mask)
        return ops.broadcast_to(ops.arange(length, dtype="float32"), (batch, length))

    def check_length(self, length):
        """Refuse a (static) length that the positions cannot reach."""

    def uniform(self, batch, columns):
        """Uniform draws of `[0, 1)`, a row for each sequence or one for the batch."""
        rows = batch if self.per_sequence else 1
        return keras.random.uniform((rows, columns), seed=self.seed_generator)

    def normal(self, batch, columns):
        """Standard normal draws, likewise."""
        rows = batch if self.per_sequence else 1
        return keras.random.normal((rows, columns), seed=self.seed_generator)

    def call(self, padding_mask, training=None):
        if padding_mask.shape[1] is not None:
            self.check_length(padding_mask.shape[1])
        padding_mask = ops.cast(padding_mask, "bool")
        if training:
            return self.training_positions(padding_mask)
        return self.prediction_positions(padding_mask)

    def compute_output_spec(self, padding_mask, training=None):
        if padding_mask.shape[1] is not None:
            self.check_length(padding_mask.shape[1])
        return keras.KerasTensor(padding_mask.shape, dtype="float32")

    def get_config(self):
        return {
            **super().get_config(),
            "per_layer": self.per_layer,
            "per_sequence": self.per_sequence,
            "seed": self.seed,
        }


def _num_tokens(padding_mask):
    """Tokens of each sequence, at least 1, `(B, 1)` int32."""
    counts = ops.sum(ops.cast(padding_mask, "int32"), axis=1, keepdims=True)
    return ops.maximum(counts, 1)


def _token_ranks(padding_mask):
    """How many tokens precede each place, `(B, T)` int32; padding repeats the last."""
    ranks = ops.cumsum(ops.cast(padding_mask, "int32"), axis=1) - 1
    return ops.maximum(ranks, 0)


def _evenly_spaced(padding_mask, last):
    """`0 .. last` over the tokens of each sequence, float32 `(B, T)`."""
    steps = ops.cast(ops.maximum(_num_tokens(padding_mask) - 1, 1), "float32")
    return ops.cast(_token_ranks(padding_mask), "float32") * (last / steps)


# What a `RandomPositions` does outside of training.
PREDICTIONS = {
    "even": lambda sampler, mask: _evenly_spaced(mask, sampler.max_position - 1.0),
    "sampled": lambda sampler, mask: sampler.training_positions(mask),
}


@keras.saving.register_keras_serializable(package="bert4keras3")
class RandomPositions(PositionSampler):
    """Random positions: a sorted random subset of `0 .. L-1` for each text.

    A text of `n` tokens gets `n` distinct integers, uniformly drawn and sorted, so that
    the model learns order and not distance. At prediction they are `k (L-1) / (n-1)`,
    evenly spaced over the whole range (floats), or drawn likewise. `n` counts tokens:
    padding changes no position, and has the position of the token before it. Costs a
    sort of `L` numbers per text. Suits encoders; the second source warns that short
    training can lose accuracy at the lengths of training.
    Sources: https://arxiv.org/abs/2305.16843 (N=40, L=2048),
    https://kexue.fm/archives/9444 (evenly spaced at prediction).

    Args:
        max_position: `L`, beyond every length at prediction.
        prediction: `"even"` or `"sampled"`.
        per_layer, per_sequence, seed: see `PositionSampler`. The paper draws for every
            layer, and once for the batch.

    Call arguments:
        padding_mask: `(B, T)`, true or 1 where the position holds a token.
        training: draw.

    Raises:
        ValueError: a (static) length above `max_position`, or bad arguments.

    Example:

    >>> positions = RandomPositions(max_position=9)(np.ones((1, 5), bool))
    >>> np.array(positions)
    array([[0., 2., 4., 6., 8.]], dtype=float32)
    """

    def __init__(self, max_position=2048, prediction="even", **kwargs):
        super().__init__(**kwargs)
        self.max_position = whole_number(
            max_position, "max_position", "the number of positions to draw from"
        )
        lookup(prediction, PREDICTIONS, "prediction of random positions")
        self.prediction = prediction

    def check_length(self, length):
        if length > self.max_position:
            raise ValueError(
                f"{length} distinct positions cannot be drawn from "
                f"{self.max_position}. Raise `max_position` above every length of "
                "training and prediction, or truncate the text."
            )

    def training_positions(self, padding_mask):
        batch, length = ops.shape(padding_mask)
        drawn = ops.argsort(self.uniform(batch, self.max_position), axis=-1)
        drawn = ops.cast(drawn[:, :length], "int32")
        # A text of n tokens takes n of them; the others are sorted to the end.
        taken = ops.arange(length) < _num_tokens(padding_mask)
        drawn = ops.sort(ops.where(taken, drawn, self.max_position), axis=-1)
        positions = ops.take_along_axis(drawn, _token_ranks(padding_mask), axis=1)
        return ops.cast(positions, "float32")

    def prediction_positions(self, padding_mask):
        return PREDICTIONS[self.prediction](self, padding_mask)

    def get_config(self):
        return {
            **super().get_config(),
            "max_position": self.max_position,
            "prediction": self.prediction,
        }


class EqualMeanPositions(PositionSampler):
    """Base class: positions stretched at random, by 1 on average.

    `p_k = k / (n - 1) * s` for a text of `n` tokens, with `s >= 0` drawn with mean `n`;
    at prediction `p_k = k`, plain integers. So the last position of a text has mean
    `n`, and spacing in training is about that of prediction on average. The positions
    are floats, for rotary and sinusoidal embeddings. `n` counts tokens: padding changes
    no position, and goes on in the same steps. Costs one draw per text.
    Source: https://kexue.fm/archives/9444.
    """

    def last_positions(self, num_tokens):
        """`s`, float32 `(B, 1)`, drawn for `num_tokens`, `(B, 1)` float32."""
        raise NotImplementedError

    def training_positions(self, padding_mask):
        places = self.prediction_positions(padding_mask)
        num_tokens = ops.cast(_num_tokens(padding_mask), "float32")
        steps = ops.maximum(num_tokens - 1, 1)
        return places * (self.last_positions(num_tokens) / steps)


@keras.saving.register_keras_serializable(package="bert4keras3")
class EqualMeanExponentialPositions(EqualMeanPositions):
    """Equal-mean random positions with an exponential distribution, the source's own.

    `p_k = k / (n - 1) * s`, `s ~ Exponential(mean n)`; at prediction `p_k = k`. The
    mean is `n` and so is the deviation: one text in 55 reaches beyond `4 n`. Padding
    changes no position. Costs one draw per text.
    Source: https://kexue.fm/archives/9444.

    Args:
        per_layer, per_sequence, seed: see `PositionSampler`.

    Call arguments:
        padding_mask: `(B, T)`, true or 1 where the position holds a token.
        training: draw.

    Example:

    >>> positions = EqualMeanExponentialPositions()(np.ones((1, 4), bool))
    >>> np.array(positions)
    array([[0., 1., 2., 3.]], dtype=float32)
    """

    def last_positions(self, num_tokens):
        draws = self.uniform(ops.shape(num_tokens)[0], 1)
        return -ops.log1p(-draws) * num_tokens


@keras.saving.register_keras_serializable(package="bert4keras3")
class EqualMeanBetaPositions(EqualMeanPositions):
    """Equal-mean random positions with a beta distribution, bounded by the test length.

    `p_k = k / (n - 1) * s`, `s ~ M Beta(alpha, beta)`, `beta = alpha (M - n) / n`, so
    that the mean is `n`; at prediction `p_k = k`. No text goes beyond `M`. The larger
    `alpha`, the nearer `s` stays to `n`. Padding changes no position. A beta draw is
    made of two gamma draws with 8 tries each (Marsaglia and Tsang,
    https://doi.org/10.1145/358407.358414), of which fewer than one in a million fails.
    Source: https://kexue.fm/archives/9444.

    Args:
        prediction_length: `M`, the longest text at prediction.
        alpha: shape of the distribution, above 0; 1 falls off from 0 to `M`.
        per_layer, per_sequence, seed: see `PositionSampler`.

    Call arguments:
        padding_mask: `(B, T)`, true or 1 where the position holds a token.
        training: draw.

    Raises:
        ValueError: values that are not positive, or, while training, a (static) length
            that is not below `prediction_length`.

    Example:

    >>> sampler = EqualMeanBetaPositions(prediction_length=512)
    >>> positions = sampler(np.ones((2, 64), bool), training=True)
    >>> bool(np.max(positions) <= 512)
    True
    """

    def __init__(self, prediction_length=512, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        for name, value in (
            ("prediction_length", prediction_length),
            ("alpha", alpha),
        ):
            if value <= 0:
                raise ValueError(f"`{name}` must be above 0. Received {value}.")
        self.prediction_length = prediction_length
        self.alpha = alpha

    def training_positions(self, padding_mask):
        length = padding_mask.shape[1]
        if length is not None and length >= self.prediction_length:
            raise ValueError(
                f"A text of {length} places cannot be stretched by 1 on average within "
                f"{self.prediction_length}. Raise `prediction_length` above the length "
                "of training."
            )
        return super().training_positions(padding_mask)

    def last_positions(self, num_tokens):
        beta = self.alpha * (self.prediction_length / num_tokens - 1.0)
        batch = ops.shape(num_tokens)[0]
        one = self._gamma(batch, self.alpha * ops.ones_like(beta))
        other = self._gamma(batch, beta)
        return self.prediction_length * one / ops.maximum(one + other, 1e-30)

    def _gamma(self, batch, shape, tries=8):
        """Gamma draws with `shape`, `(B, 1)`, in a fixed number of operations."""
        d = shape + (1.0 - 1.0 / 3.0)
        x = self.normal(batch, tries)
        v = (1.0 + x / (3.0 * ops.sqrt(d))) ** 3
        positive = ops.maximum(v, 1e-30)
        log_u = ops.log1p(-self.uniform(batch, tries))
        fits = 0.5 * x * x + d * (1.0 - v + ops.log(positive))
        accepted = ops.logical_and(v > 0, log_u < fits)
        first = ops.expand_dims(ops.argmax(accepted, axis=-1), -1)
        draws = d * ops.take_along_axis(positive, first, axis=-1)
        # That was for a shape of one more.
        return draws * ops.exp(ops.log1p(-self.uniform(batch, 1)) / shape)

    def get_config(self):
        return {
            **super().get_config(),
            "prediction_length": self.prediction_length,
            "alpha": self.alpha,
        }


POSITION_SAMPLERS = {
    "equal_mean_beta": EqualMeanBetaPositions,
    "equal_mean_exponential": EqualMeanExponentialPositions,
    "random_positions": RandomPositions,
}


def get(identifier):
    """Return a sampler for a name, a config or an instance; `None` stays `None`.

    Example:

    >>> get("random_positions").max_position
    2048
    """
    return resolve_scheme(
        identifier, POSITION_SAMPLERS, "position sampler", PositionSampler
    )


def serialize(sampler):
    """Config of a sampler, or `None`, that `get` reads back."""
    return serialize_scheme(sampler)
