"""Global pointer: one score per label for every span of a text."""

import keras
from keras import ops

from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.initializer import fresh
from bert4keras3.ops import MASKED_LOGIT


class SpanScorer(keras.layers.Layer):
    """What both global pointers share: arguments, positions, and excluded spans.

    Args:
        num_labels: number `N` of span labels.
        head_dim: size `H` of a start and an end vector; even with rotary positions.
        rotary_embedding: name, config or instance, see `rotary_embedding`; `None` for
            no positions, which makes spans much harder to learn.
        exclude_reversed: exclude spans that end before they start.
        use_bias: add biases to the projections.
        kernel_initializer: initializer of all kernels.

    Call arguments:
        x: `(B, T, D)`.
        padding_mask: `(B, T)`, true or 1 where there is a token. A span with its start
            or its end in the padding is excluded.
        positions: `(T,)` or `(B, T)`, `None` for `0 .. T-1`.

    Returns:
        float32 logits `(B, N, T, T)`, label by start by end; excluded spans hold
        -1e9, so that neither a threshold nor the loss
        `losses.multilabel_categorical_crossentropy` sees them.
    """

    def __init__(
        self,
        num_labels,
        head_dim=64,
        rotary_embedding="rope",
        exclude_reversed=True,
        use_bias=True,
        kernel_initializer="lecun_normal",
        **kwargs,
    ):
        # Positions must not be cast to the compute dtype on the way in.
        super().__init__(autocast=False, **kwargs)
        self.num_labels = num_labels
        self.head_dim = head_dim
        self.rotary_embedding = rotary_embeddings.get(
            rotary_embedding, self.dtype_policy
        )
        if self.rotary_embedding is not None:
            self.rotary_embedding.frequencies(head_dim)  # refuses odd sizes
        self.exclude_reversed = exclude_reversed
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def _dense(self, units, name, input_shape):
        dense = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(input_shape)
        return dense

    def _build_positions(self, input_shape):
        scheme = self.rotary_embedding
        if scheme is not None and not scheme.built:
            scheme.build((input_shape[0], 1, input_shape[1], self.head_dim))

    def scores(self, start, end, positions):
        """float32 `q_s k_e / sqrt(H)` from `(B, N, T, H)` starts and ends."""
        if self.rotary_embedding is None:
            products = ops.matmul(start, ops.swapaxes(end, -1, -2))
        else:
            products = self.rotary_embedding.scores(start, end, positions, positions)
        return ops.cast(products, "float32") / self.head_dim**0.5

    def exclude(self, logits, padding_mask):
        """Put -1e9 where a span is excluded."""
        if padding_mask is not None:
            mask = ops.cast(padding_mask, "bool")
            starts, ends = mask[:, None, :, None], mask[:, None, None, :]
            logits = ops.where(
                ops.logical_and(starts, ends), logits, float(MASKED_LOGIT)
            )
        if self.exclude_reversed:
            steps = ops.arange(ops.shape(logits)[-1])
            forward = ops.expand_dims(steps, 1) <= ops.expand_dims(steps, 0)
            logits = ops.where(forward, logits, float(MASKED_LOGIT))
        return logits

    def compute_output_spec(self, x, padding_mask=None, positions=None):
        batch, length, _ = x.shape
        shape = (batch, self.num_labels, length, length)
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self):
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "head_dim": self.head_dim,
            "rotary_embedding": rotary_embeddings.serialize(self.rotary_embedding),
            "exclude_reversed": self.exclude_reversed,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="bert4keras3")
class GlobalPointer(SpanScorer):
    """Score of every span `(s, e)` for every label `a`, nested spans included.

    `l_a(s, e) = rope(W_q,a x_s + b_q,a) rope(W_k,a x_e + b_k,a) / sqrt(H)`: one head
    of attention per label, without softmax. A span is found where `l_a(s, e) > 0`.

    Sources: https://kexue.fm/archives/8373, https://arxiv.org/abs/2208.03054.

    Args: see `SpanScorer`, with the call arguments.

    Example:

    >>> pointer = GlobalPointer(num_labels=3, head_dim=8)
    >>> tuple(pointer(np.ones((2, 5, 16), "float32")).shape)
    (2, 3, 5, 5)
    """

    def build(self, input_shape):
        self._build_positions(input_shape)
        units = self.num_labels * self.head_dim
        self.start_dense = self._dense(units, "start_dense", input_shape)
        self.end_dense = self._dense(units, "end_dense", input_shape)

    def call(self, x, padding_mask=None, positions=None):
        x = ops.cast(x, self.compute_dtype)
        start = self._split_labels(self.start_dense(x))
        end = self._split_labels(self.end_dense(x))
        return self.exclude(self.scores(start, end, positions), padding_mask)

    def _split_labels(self, x):
        """`(B, T, N * H)` to `(B, N, T, H)`."""
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.num_labels, self.head_dim))
        return ops.transpose(x, (0, 2, 1, 3))


@keras.saving.register_keras_serializable(package="bert4keras3")
class EfficientGlobalPointer(SpanScorer):
    """Global pointer that shares the span score, and adds two numbers per label.

    `l_a(s, e) = rope(q_s) rope(k_e) / sqrt(H) + (w_a [q_s, k_s] + v_a [q_e, k_e]) / 2`
    with `q = W_q x + b_q` and `k = W_k x + b_k`: finding spans is shared by the
    labels, naming them costs `4 H + 2` weights each.

    Source: https://kexue.fm/archives/8877.

    Args: see `SpanScorer`, with the call arguments.

    Example:

    >>> pointer = EfficientGlobalPointer(num_labels=3, head_dim=8)
    >>> tuple(pointer(np.ones((2, 5, 16), "float32")).shape)
    (2, 3, 5, 5)
    """

    def build(self, input_shape):
        self._build_positions(input_shape)
        self.start_dense = self._dense(self.head_dim, "start_dense", input_shape)
        self.end_dense = self._dense(self.head_dim, "end_dense", input_shape)
        label_shape = (*input_shape[:-1], 2 * self.head_dim)
        self.start_label_dense = self._dense(
            self.num_labels, "start_label_dense", label_shape
        )
        self.end_label_dense = self._dense(
            self.num_labels, "end_label_dense", label_shape
        )

    def call(self, x, padding_mask=None, positions=None):
        x = ops.cast(x, self.compute_dtype)
        start, end = self.start_dense(x), self.end_dense(x)
        spans = self.scores(
            ops.expand_dims(start, 1), ops.expand_dims(end, 1), positions
        )
        joined = ops.concatenate([start, end], axis=-1)
        of_start = self._per_label(self.start_label_dense(joined))
        of_end = self._per_label(self.end_label_dense(joined))
        labels = ops.expand_dims(of_start, -1) + ops.expand_dims(of_end, -2)
        return self.exclude(spans + labels / 2, padding_mask)

    def _per_label(self, x):
        """`(B, T, N)` to float32 `(B, N, T)`."""
        return ops.cast(ops.transpose(x, (0, 2, 1)), "float32")
