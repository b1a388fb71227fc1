"""Exact inference in linear chains: sums and maxima over all label sequences.

A chain scores a sequence of labels by `sum_t e[t, y_t] + sum_t w[y_{t-1}, y_t]`.

Shapes: `B` batch, `T` length, `L` labels. `logits` `(B, T, L)` are the `e`,
`transitions` `(L, L)` the `w`, both float32. `mask` `(B, T)` is boolean and true where
there is a token. Hidden positions are stepped over, wherever they are: the next token
follows the last one before the gap. Cost: `T` steps of `B * L * L`.
"""

import keras
import numpy as np
from keras import ops

from bert4keras3.ops import MASKED_LOGIT, take_rows


def scan(step, init, xs, reverse=False):
    """`carry = step(carry, x)` along the first axis; all carries, stacked.

    The length must be known when XLA compiles it. Gradients flow on every backend.

    Args:
        step: function from a carry and a slice of `xs` to the next carry.
        init: tensor or tuple of tensors.
        xs: tensor or tuple of tensors `(T, ...)`.
        reverse: go from the last slice to the first; the order of the result stays.
    """
    if keras.backend.backend() == "tensorflow":
        # The loop of `keras.ops.scan` states no bound on its length there, and XLA
        # needs one to reserve the memory for the gradient.
        import tensorflow as tf

        return tf.scan(step, xs, initializer=init, reverse=reverse)

    def step_and_keep(carry, x):
        carry = step(carry, x)
        return carry, carry

    return ops.scan(step_and_keep, init, xs, reverse=reverse)[1]


def _log_sum_exp(x, axis):
    """`log sum exp` whose gradient is `exp(x - max) / sum`, exact at any size of `x`.

    `exp(x - result)`, as some backends take it, is off by the rounding of the result,
    and over many steps that adds up.
    """
    top = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    return ops.log(ops.sum(ops.exp(x - top), axis=axis)) + ops.squeeze(top, axis)


def _time_major(*tensors):
    return tuple(ops.swapaxes(tensor, 0, 1) for tensor in tensors)


def first_visible(mask):
    """`(B, T)`, true at the first token of each row."""
    return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), axis=1) == 1)


def neighbours(labels, mask, reverse=False):
    """Label of the token before (or after) each position; -1 where there is none.

    Args:
        labels: int32 `(B, T)`.
        mask: `(B, T)`.
        reverse: look at the token after.

    Returns:
        int32 `(B, T)`.
    """

    def step(last, inputs):
        label, visible = inputs
        return ops.where(visible, label, last)

    none = ops.full_like(labels[:, 0], -1)
    last = scan(step, none, _time_major(labels, mask), reverse=reverse)
    none = ops.expand_dims(none, 0)
    parts = [last[1:], none] if reverse else [none, last[:-1]]
    return ops.swapaxes(ops.concatenate(parts, axis=0), 0, 1)


def step_scores(labels, logits, transitions, mask):
    """What each token adds to the score of a labelled sequence.

    Args:
        labels: int32 `(B, T)`; any valid label where the mask is false.

    Returns:
        float32 `(B, T)`, zero where the mask is false.
    """
    before = neighbours(labels, mask)
    emitted = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)[..., 0]
    pair = ops.maximum(before, 0) * logits.shape[-1] + labels
    moved = take_rows(ops.reshape(transitions, (-1,)), pair)
    scores = emitted + ops.where(before >= 0, moved, 0.0)
    return ops.where(mask, scores, 0.0)


def forward_scores(logits, transitions, mask):
    """`log sum exp` of the scores of all sequences that end in each label.

    Returns:
        float32 `(T, B, L)`, time first.
    """

    def step(alpha, inputs):
        emitted, visible, first = inputs
        moved = _log_sum_exp(ops.expand_dims(alpha, 2) + transitions, axis=1)
        scores = emitted + ops.where(ops.expand_dims(first, 1), 0.0, moved)
        return ops.where(ops.expand_dims(visible, 1), scores, alpha)

    inputs = _time_major(logits, mask, first_visible(mask))
    return scan(step, ops.zeros_like(logits[:, 0]), inputs)


def backward_scores(logits, transitions, mask):
    """`log sum exp` of the scores of all continuations after each label.

    Returns:
        float32 `(T, B, L)`, time first.
    """

    def step(beta, inputs):
        emitted, visible = inputs
        onward = ops.expand_dims(emitted + beta, 1) + transitions
        return ops.where(
            ops.expand_dims(visible, 1), _log_sum_exp(onward, axis=2), beta
        )

    nothing = ops.zeros_like(logits[:, 0])
    onward = scan(step, nothing, _time_major(logits, mask), reverse=True)
    return ops.concatenate([onward[1:], ops.expand_dims(nothing, 0)], axis=0)


def log_partition(logits, transitions, mask):
    """`log sum_y exp(score(y))` over all label sequences of each row.

    Returns:
        float32 `(B,)`; zero for a row without a token.
    """
    last = forward_scores(logits, transitions, mask)[-1]
    return ops.where(ops.any(mask, axis=1), _log_sum_exp(last, axis=-1), 0.0)


def negative_log_likelihood(labels, logits, transitions, mask):
    """`log sum_y' exp(score(y')) - score(y)` of each row.

    The score of `y` is taken out step by step, not at the end, so that the sum stays
    near the loss and long or confident sequences lose no digits.

    Returns:
        float32 `(B,)`; zero for a row without a token.
    """
    gold = step_scores(labels, logits, transitions, mask)
    return log_partition(logits - ops.expand_dims(gold, -1), transitions, mask)


def marginals(logits, transitions, mask):
    """Probability of every label at every position, given the whole row.

    Returns:
        float32 `(B, T, L)`; zeros where the mask is false.
    """
    scores = forward_scores(logits, transitions, mask)
    scores = scores + backward_scores(logits, transitions, mask)
    probabilities = ops.swapaxes(ops.softmax(scores, axis=-1), 0, 1)
    return ops.where(ops.expand_dims(mask, -1), probabilities, 0.0)


def viterbi(logits, transitions, mask, start_labels=None, end_labels=None):
    """The label sequence of the highest score (of equal ones, the lowest label).

    Args:
        start_labels, end_labels: labels that the first and the last token may have,
            `None` for all.

    Returns:
        int32 `(B, T)`; -1 where the mask is false.

    Raises:
        ValueError: a label that does not exist.
    """
    num_labels = logits.shape[-1]
    starts = _penalties(start_labels, num_labels, "start_labels")
    ends = _penalties(end_labels, num_labels, "end_labels")
    logits, transitions = ops.stop_gradient(logits), ops.stop_gradient(transitions)
    same = ops.expand_dims(ops.arange(num_labels, dtype="int32"), 0)

    def step(carry, inputs):
        best, _ = carry
        emitted, visible, first = inputs
        visible, first = ops.expand_dims(visible, 1), ops.expand_dims(first, 1)
        paths = ops.expand_dims(best, 2) + transitions
        scores = emitted + ops.where(first, starts, ops.max(paths, axis=1))
        # Only differences matter; without this, long rows lose digits.
        scores = scores - ops.max(scores, axis=-1, keepdims=True)
        came_from = ops.cast(ops.argmax(paths, axis=1), "int32")
        moved = ops.logical_and(visible, ops.logical_not(first))
        return (
            ops.where(visible, scores, best),
            ops.where(moved, came_from, same),
        )

    inputs = _time_major(logits, mask, first_visible(mask))
    nothing = ops.zeros_like(logits[:, 0])
    init = (nothing, ops.cast(nothing, "int32"))
    scores, came_from = scan(step, init, inputs)
    last = ops.cast(ops.argmax(scores[-1] + ends, axis=-1), "int32")

    def step_back(label, came_from):
        return ops.take_along_axis(came_from, ops.expand_dims(label, 1), axis=1)[:, 0]

    path = scan(step_back, last, came_from, reverse=True)
    path = ops.concatenate([path[1:], ops.expand_dims(last, 0)], axis=0)
    return ops.where(mask, ops.swapaxes(path, 0, 1), -1)


def _penalties(labels, num_labels, argument):
    """float32 `(1, L)`: zero for the given labels, a large negative for the rest."""
    penalties = np.zeros((1, num_labels), "float32")
    if labels is not None:
        labels = sorted(labels)
        if not labels or labels[0] < 0 or labels[-1] >= num_labels:
            raise ValueError(
                f"`{argument}` must hold labels from 0 to {num_labels - 1}, at least "
                f"one. Received {labels}."
            )
        penalties[:] = MASKED_LOGIT
        penalties[0, labels] = 0.0
    return ops.convert_to_tensor(penalties)
