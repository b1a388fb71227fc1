"""Positions sampled while training, so that a model learns order and not places.

A sampler is a layer from the padding mask to positions. `fit` draws anew at every step;
at prediction a rule that goes with it takes over. A new sampler is one class with two
hooks, and a line in `POSITION_SAMPLERS` if it should have a name.
"""

import keras
from keras import ops

from bert4keras3.naming import resolve_scheme, serialize_scheme


class PositionSampler(keras.layers.Layer):
    """Base class: `sample` while training, `at_prediction` otherwise.

    Args:
        per_layer: draw anew for every layer of a model, as the original code of random
            positions does, instead of once for all.
        per_sequence: draw for every row, instead of one draw for the batch.

    Call arguments:
        padding_mask: `(B, T)`, true or 1 where there is a token. The positions of a row
            depend on how many tokens it has, never on the padding.

    Returns:
        float32 positions `(B, T)`; those of padding have no meaning.
    """

    def __init__(self, per_layer=False, per_sequence=True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.per_layer = per_layer
        self.per_sequence = per_sequence
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def sample(self, places, num_tokens):
        """Positions while training.

        Args:
            places: float32 `(B, T)`, the places 0 .. T-1 in each row.
            num_tokens: float32 `(B, 1)`, tokens of each row, at least 1.
        """
        raise NotImplementedError

    def at_prediction(self, places, num_tokens):
        """Positions at prediction: by default the places themselves."""
        return places

    def call(self, padding_mask, training=None):
        shape = ops.shape(padding_mask)
        places = ops.broadcast_to(ops.arange(shape[1], dtype="float32"), shape)
        num_tokens = ops.sum(ops.cast(padding_mask, "float32"), axis=1, keepdims=True)
        num_tokens = ops.maximum(num_tokens, 1.0)
        rule = self.sample if training else self.at_prediction
        return ops.broadcast_to(rule(places, num_tokens), shape)

    def rows(self, places):
        """How many rows to draw for."""
        return ops.shape(places)[0] if self.per_sequence else 1

    def compute_output_spec(self, padding_mask, training=None):
        return keras.KerasTensor(padding_mask.shape, dtype="float32")

    def get_config(self):
        return {
            **super().get_config(),
            "per_layer": self.per_layer,
            "per_sequence": self.per_sequence,
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class RandomPositions(PositionSampler):
    """Distinct whole positions below `max_position`, drawn at random and sorted.

    A row of `n` tokens gets `n` of the numbers `0 .. max_position - 1` in order. What
    is left to learn is the order. At prediction the positions are spread evenly,
    `p_i = i (max_position - 1) / (n - 1)`, rounded down to whole numbers, or drawn as
    in training (`prediction="sampled"`). The draw costs a sort of `max_position`
    numbers a row. Sources: https://arxiv.org/abs/2305.16843, which trains at 40 with
    2048 positions; https://kexue.fm/archives/9444, which finds the even spread better.

    Args:
        max_position: how many positions there are, at least the length of any row.
        prediction: `"even"` or `"sampled"`.
        per_layer, per_sequence: see `PositionSampler`.

    Raises:
        ValueError: a row longer than `max_position`, or an unknown prediction rule.

    Example:

    >>> sampler = RandomPositions(max_position=9)
    >>> np.asarray(sampler(np.ones((1, 5), "int32"))).tolist()
    [[0.0, 2.0, 4.0, 6.0, 8.0]]
    """

    def __init__(self, max_position=2048, prediction="even", **kwargs):
        super().__init__(**kwargs)
        if max_position < 1:
            raise ValueError(
                f"`max_position` must be at least 1. Received {max_position}."
            )
        if prediction not in ("even", "sampled"):
            raise ValueError(
                "`prediction` must be 'even' (spread evenly) or 'sampled' (drawn as in "
                f"training). Received {prediction!r}."
            )
        self.max_position = max_position
        self.prediction = prediction

    def _check(self, places):
        length = places.shape[1]
        if length is not None and length > self.max_position:
            raise ValueError(
                f"A row of {length} tokens needs as many distinct positions, and there "
                f"are {self.max_position}. Raise `max_position`, which is to be larger "
                "than any length at prediction."
            )

    def sample(self, places, num_tokens):
        self._check(places)
        # The places of the n smallest of random numbers are n distinct random numbers.
        shape = (self.rows(places), self.max_position)
        order = ops.argsort(keras.random.uniform(shape, seed=self.seed_generator))
        drawn = order[:, : ops.shape(places)[1]]
        # Beyond the tokens of the row nothing may be drawn: it would spread the rest.
        behind = places >= num_tokens
        drawn = ops.where(behind, self.max_position, ops.cast(drawn, "int32"))
        return ops.cast(ops.sort(drawn, axis=1), "float32")

    def at_prediction(self, places, num_tokens):
        if self.prediction == "sampled":
            return self.sample(places, num_tokens)
        self._check(places)
        step = (self.max_position - 1.0) / ops.maximum(num_tokens - 1.0, 1.0)
        # The product of a whole quotient may fall just short of it.
        return ops.floor(places * step + 1e-3)

    def get_config(self):
        return {
            **super().get_config(),
            "max_position": self.max_position,
            "prediction": self.prediction,
        }


class EqualMeanPositions(PositionSampler):
    """Base class: equally spaced positions whose last one is right on average.

    A row of `n` tokens is laid out as `p_i = r * i`, with one random factor `r` of mean
    1 for the row, so that on average the last position is the one that counting gives.
    Prediction counts: `p_i = i`. The source writes `linspace(0, 1, n) * l` with `l`
    of mean `n`; the two differ by the factor `n / (n - 1)`. For encodings that take
    fractions: rotary, sinusoidal. Source: https://kexue.fm/archives/9444.
    """

    def factors(self, shape):
        """Random numbers of mean 1, none of them negative."""
        raise NotImplementedError

    def sample(self, places, num_tokens):
        return places * self.factors((self.rows(places), 1))


@keras.saving.register_keras_serializable(package="bert4keras3")
class EqualMeanExponential(EqualMeanPositions):
    """Equal-mean positions with an exponentially distributed step.

    See `EqualMeanPositions`: `r = -ln u`, `u` uniform. Its standard deviation equals
    its mean, so that rows of three to four times the length occur in training; a
    Poisson distribution would hardly leave the mean.

    Args:
        per_layer, per_sequence: see `PositionSampler`.

    Example:

    >>> positions = EqualMeanExponential()(np.ones((1, 3), "int32"), training=False)
    >>> np.asarray(positions).tolist()
    [[0.0, 1.0, 2.0]]
    """

    def factors(self, shape):
        uniform = keras.random.uniform(shape, 1e-7, 1.0, seed=self.seed_generator)
        return -ops.log(uniform)


@keras.saving.register_keras_serializable(package="bert4keras3")
class EqualMeanBeta(EqualMeanPositions):
    """Equal-mean positions with a step from a beta distribution: a largest length.

    See `EqualMeanPositions`: `r = stretch * x`, `x ~ Beta(alpha, beta)` with
    `beta = alpha (stretch - 1)`, so that `E[r] = 1` and no row is ever laid out longer
    than `stretch` times.

    Args:
        stretch: how many times the length of training the longest row at prediction
            has; above 1.
        alpha: shape of the distribution, positive; larger is narrower.
        per_layer, per_sequence: see `PositionSampler`.

    Raises:
        ValueError: `stretch` of at most 1, or `alpha` of at most 0.
    """

    def __init__(self, stretch=8.0, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        if stretch <= 1 or alpha <= 0:
            raise ValueError(
                "`stretch` must be above 1 and `alpha` positive. Received "
                f"stretch={stretch}, alpha={alpha}."
            )
        self.stretch = stretch
        self.alpha = alpha

    def factors(self, shape):
        beta = self.alpha * (self.stretch - 1)
        return self.stretch * keras.random.beta(
            shape, self.alpha, beta, seed=self.seed_generator
        )

    def get_config(self):
        return {**super().get_config(), "stretch": self.stretch, "alpha": self.alpha}


POSITION_SAMPLERS = {
    "random_positions": RandomPositions,
    "equal_mean_exponential": EqualMeanExponential,
    "equal_mean_beta": EqualMeanBeta,
}


def get(identifier):
    """Return a position sampler for a name, a config or an instance; `None` is none."""
    return resolve_scheme(
        identifier, POSITION_SAMPLERS, "position sampler", PositionSampler
    )


def serialize(sampler):
    """Config of a position sampler that `get` reads back."""
    return serialize_scheme(sampler)
