"""Convolutions over the neighbouring places of each head, before attention."""

import functools

import keras
import numpy as np
from keras import ops

from bert4keras3.naming import resolve_scheme, serialize_scheme


@keras.saving.register_keras_serializable(package="bert4keras3")
class HeadConvolution(keras.layers.Layer):
    """Depthwise convolution along the row, each feature of each head by itself.

    `y_i = sum_s w_s * x_{i-s}`, `s = 0 .. width-1`, or, centred,
    `s = -(width-1)/2 .. (width-1)/2`; places outside the row are zeros, and there is no
    bias. Primer's attention has one of width 3 on its queries, keys and values each,
    after their projections. As in Primer's code, `w_0` starts at 0.5 and the others at
    `0.5 / width`.

    Padding is made zero first, so that its content reaches no token. Neighbours are a
    matter of places, whatever the positions of the tokens. A centred convolution shows
    a token what follows it: it is for encoders, and a causal mask does not hide that.
    Cost: `width` products per number, linear in the length.

    Source: https://arxiv.org/abs/2109.08668, section 4.

    Args:
        width: how many places are summed.
        causal: look back only; `False` centres the convolution, for an odd width.

    Call arguments:
        x: `(B, N, T, H)`.
        padding_mask: `(B, T)`, true or 1 where there is a token; `None` if all are.

    Returns:
        `(B, N, T, H)`.

    Raises:
        ValueError: `width` below one, or an even one that is centred.

    Example:

    >>> convolution = HeadConvolution(width=3)
    >>> float(convolution(np.ones((1, 2, 4, 8), "float32"))[0, 0, 0, 0])
    0.5
    """

    def __init__(self, width=3, causal=True, **kwargs):
        super().__init__(**kwargs)
        if width < 1 or not (causal or width % 2):
            raise ValueError(
                "`width` must be at least 1, and odd if `causal=False`, so that a "
                f"token sees as much on both sides. Received width={width}, "
                f"causal={causal}. Primer takes 3."
            )
        self.width = width
        self.causal = causal

    @property
    def ahead(self):
        """How many later places a token sees."""
        return 0 if self.causal else self.width // 2

    def build(self, input_shape):
        _, heads, _, dim = input_shape
        start = np.full((self.width, heads, dim), 0.5 / self.width)
        start[self.ahead] = 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=start.shape,
            # From the latest place that is seen to the earliest.
            initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype),
        )

    def call(self, x, padding_mask=None):
        if padding_mask is not None:
            real = ops.cast(padding_mask, "bool")[:, None, :, None]
            x = ops.where(real, x, 0)
        length = ops.shape(x)[2]
        behind = self.width - 1 - self.ahead
        padded = ops.pad(x, ((0, 0), (0, 0), (behind, self.ahead), (0, 0)))
        kernel = ops.expand_dims(ops.convert_to_tensor(self.kernel), 2)
        return sum(
            kernel[step] * padded[:, :, first : first + length]
            for step, first in enumerate(reversed(range(self.width)))
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "width": self.width, "causal": self.causal}


HEAD_CONVOLUTIONS = {
    "causal": HeadConvolution,
    "centred": functools.partial(HeadConvolution, causal=False),
}


def get(identifier):
    """Return a convolution for a name, a width, a config or an instance.

    Args:
        identifier: name in `HEAD_CONVOLUTIONS`, width of a causal convolution,
            serialized config or instance; `None` is none.
    """
    if isinstance(identifier, int):
        return HeadConvolution(identifier)
    return resolve_scheme(
        identifier, HEAD_CONVOLUTIONS, "head convolution", HeadConvolution
    )


def serialize(convolution):
    """Config of a convolution that `get` reads back."""
    return serialize_scheme(convolution)
