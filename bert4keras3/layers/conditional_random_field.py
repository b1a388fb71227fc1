"""Layers that score whole label sequences: CRF and MEMM."""

import keras
from keras import ops

from bert4keras3.layers import linear_chain
from bert4keras3.layers.initializer import fresh
from bert4keras3.ops import take_rows


class SequenceScorer(keras.layers.Layer):
    """What CRF and MEMM share: masks, decoding, and the way they are called.

    Called with labels, the layer gives the loss of each row; called without, it gives
    the logits back, so that it can stand at the end of a model whose loss it is:
    `model.compile(loss=layer.loss)`. Everything is float32 under every dtype policy.

    Args:
        lr_multiplier: the transitions are stored divided by it. With an optimizer whose
            steps do not grow with the gradient, such as Adam, they then learn that many
            times faster than the rest of the model, which they need when a pretrained
            encoder is tuned at a low rate (https://kexue.fm/archives/7196).
        transitions_initializer: initializer of the transitions.

    Call arguments:
        logits: `(B, T, L)`, one score per token and label.
        labels: integers `(B, T)`; a negative label hides its position.
        padding_mask: `(B, T)`, true or 1 where there is a token. Positions without one
            are left out of the chain.

    Returns:
        float32 `(B,)` losses, or float32 `(B, T, L)` logits when called without labels.
    """

    def __init__(
        self, lr_multiplier=1.0, transitions_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        if lr_multiplier <= 0:
            raise ValueError(
                f"`lr_multiplier` must be positive. Received {lr_multiplier}."
            )
        self.lr_multiplier = lr_multiplier
        self.transitions_initializer = keras.initializers.get(transitions_initializer)

    def _stored(self, name, shape):
        initializer = fresh(self.transitions_initializer)

        def divided(shape, dtype=None):
            return initializer(shape, dtype=dtype) / self.lr_multiplier

        return self.add_weight(
            name=name, shape=shape, initializer=divided, autocast=False
        )

    def _effective(self, stored):
        return ops.cast(ops.convert_to_tensor(stored), "float32") * self.lr_multiplier

    @property
    def transitions(self):
        """float32 `(L, L)`: what going from label `i` to label `j` adds."""
        raise NotImplementedError

    def call(self, logits, labels=None, padding_mask=None):
        if labels is None:
            return ops.cast(logits, "float32")
        return self.loss(labels, logits, padding_mask)

    def loss(self, labels, logits, padding_mask=None):
        """float32 `(B,)` losses; the arguments are those of a Keras loss function."""
        return self.chain_loss(*self._prepared(labels, logits, padding_mask))

    def chain_loss(self, labels, logits, mask):
        """`loss` of int32 labels, float32 logits and a boolean mask."""
        raise NotImplementedError

    def decode(self, logits, padding_mask=None, start_labels=None, end_labels=None):
        """The best label sequence by the Viterbi algorithm.

        Args:
            logits: `(B, T, L)`.
            padding_mask: `(B, T)`, or `None` if all positions are tokens.
            start_labels, end_labels: labels that the first and the last token may
                have; `None` for all.

        Returns:
            int32 `(B, T)`, -1 where there is no token.
        """
        logits, mask = self._masked(logits, padding_mask)
        return linear_chain.viterbi(
            logits, self.transitions, mask, start_labels, end_labels
        )

    def _masked(self, logits, mask):
        """float32 logits, zero where there is no token, and the boolean mask."""
        logits = ops.cast(logits, "float32")
        if mask is None:
            return logits, ops.ones_like(logits[..., 0], dtype="bool")
        mask = ops.cast(mask, "bool")
        # Padding may hold anything, -inf included, which would spoil the gradient.
        return ops.where(ops.expand_dims(mask, -1), logits, 0.0), mask

    def _prepared(self, labels, logits, padding_mask):
        """Valid int32 labels, float32 logits and the boolean mask of both."""
        if len(labels.shape) != 2:
            raise ValueError(
                "`labels` must be integers of shape (B, T), one per token, negative "
                f"where there is none. Received shape {tuple(labels.shape)}."
            )
        labels = ops.cast(labels, "int32")
        mask = labels >= 0
        if padding_mask is not None:
            mask = ops.logical_and(mask, ops.cast(padding_mask, "bool"))
        return ops.maximum(labels, 0), *self._masked(logits, mask)

    def compute_output_spec(self, logits, labels=None, padding_mask=None):
        shape = logits.shape if labels is None else logits.shape[:1]
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self):
        return {
            **super().get_config(),
            "lr_multiplier": self.lr_multiplier,
            "transitions_initializer": keras.initializers.serialize(
                self.transitions_initializer
            ),
        }


def _token_accuracy(labels, logits, mask):
    """Share of the tokens whose label has the largest logit; a float32 scalar."""
    right = ops.cast(ops.argmax(logits, axis=-1), "int32") == labels
    right = ops.cast(ops.logical_and(right, mask), "float32")
    return ops.sum(right) / ops.maximum(ops.sum(ops.cast(mask, "float32")), 1.0)


@keras.saving.register_keras_serializable(package="bert4keras3")
class ConditionalRandomField(SequenceScorer):
    """Linear-chain conditional random field, CRF.

    `p(y | x) = exp(score(y)) / sum_y' exp(score(y'))` with
    `score(y) = sum_t logits[t, y_t] + sum_t transitions[y_{t-1}, y_t]`. The loss of a
    row is `-log p(y | x)`, and zero without a token.

    Sources: Lafferty et al. 2001; https://kexue.fm/archives/5542.

    Args: see `SequenceScorer`, with the call arguments.

    Example:

    >>> crf = ConditionalRandomField()
    >>> logits = np.zeros((2, 3, 5), "float32")
    >>> tuple(crf(logits, np.zeros((2, 3), "int32")).shape)
    (2,)
    >>> tuple(crf.decode(logits).shape)
    (2, 3)
    """

    def build(self, logits_shape):
        labels = logits_shape[-1]
        self.stored_transitions = self._stored("transitions", (labels, labels))

    @property
    def transitions(self):
        return self._effective(self.stored_transitions)

    def chain_loss(self, labels, logits, mask):
        return linear_chain.negative_log_likelihood(
            labels, logits, self.transitions, mask
        )

    def marginals(self, logits, padding_mask=None):
        """Probability of every label given the row, float32 `(B, T, L)`."""
        logits, mask = self._masked(logits, padding_mask)
        return linear_chain.marginals(logits, self.transitions, mask)

    def accuracy(self, labels, logits, padding_mask=None):
        """Share of tokens right by their logits alone, a cheap view of training."""
        return _token_accuracy(*self._prepared(labels, logits, padding_mask))


@keras.saving.register_keras_serializable(package="bert4keras3")
class MaximumEntropyMarkovModel(SequenceScorer):
    """Maximum entropy Markov model, MEMM, trained in both directions.

    Forward, `p(y_t | y_{t-1}, x) = softmax((logits[t] + transitions[y_{t-1}]) / 2)`,
    and `softmax(logits[t])` for the first token; backward the same from `y_{t+1}` with
    the transposed transitions. The loss of a row is the mean of both `-log p(y | x)`.
    It needs no sum over sequences; decoding is that of the CRF.

    Source: https://kexue.fm/archives/7213.

    Args:
        hidden_dim: if set, `transitions = A B^T` with factors `(L, hidden_dim)`, for
            many labels.
        lr_multiplier, transitions_initializer: see `SequenceScorer`, with the call
            arguments.

    Example:

    >>> memm = MaximumEntropyMarkovModel(hidden_dim=2)
    >>> logits = np.zeros((2, 3, 5), "float32")
    >>> tuple(memm(logits, np.zeros((2, 3), "int32")).shape)
    (2,)
    """

    def __init__(
        self,
        hidden_dim=None,
        lr_multiplier=1.0,
        transitions_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(lr_multiplier, transitions_initializer, **kwargs)
        self.hidden_dim = hidden_dim

    def build(self, logits_shape):
        labels = logits_shape[-1]
        if self.hidden_dim is None:
            self.stored_transitions = self._stored("transitions", (labels, labels))
        else:
            shape = (labels, self.hidden_dim)
            self.stored_left = self._stored("left_transitions", shape)
            self.stored_right = self._stored("right_transitions", shape)

    @property
    def transitions(self):
        if self.hidden_dim is None:
            return self._effective(self.stored_transitions)
        left = self._effective(self.stored_left)
        return ops.matmul(left, ops.transpose(self._effective(self.stored_right)))

    def directed_logits(self, labels, logits, mask, reverse=False):
        """Logits of each token given its true neighbour, `(B, T, L)`."""
        transitions = self.transitions
        if reverse:
            transitions = ops.transpose(transitions)
        neighbour = linear_chain.neighbours(labels, mask, reverse)
        history = take_rows(transitions, ops.maximum(neighbour, 0))
        known = ops.expand_dims(neighbour >= 0, -1)
        return (logits + ops.where(known, history, logits)) / 2

    def chain_loss(self, labels, logits, mask):
        return (
            self.directed_loss(labels, logits, mask)
            + self.directed_loss(labels, logits, mask, reverse=True)
        ) / 2

    def directed_loss(self, labels, logits, mask, reverse=False):
        """`-log p(y | x)` of one direction, float32 `(B,)`."""
        logits = self.directed_logits(labels, logits, mask, reverse)
        losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return ops.sum(ops.where(mask, losses, 0.0), axis=1)

    def accuracy(self, labels, logits, padding_mask=None):
        """Share of tokens right given their true neighbour, mean of both directions."""
        labels, logits, mask = self._prepared(labels, logits, padding_mask)
        both = [
            _token_accuracy(
                labels, self.directed_logits(labels, logits, mask, reverse), mask
            )
            for reverse in (False, True)
        ]
        return sum(both) / 2

    def get_config(self):
        return {**super().get_config(), "hidden_dim": self.hidden_dim}
