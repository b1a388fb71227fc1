"""Independent NumPy versions of the layers, in float64, written from the formulas.

They are here to be read: one row, one head, one pair of features at a time. Nothing
of bert4keras3 is imported. `w` is a dict from a weight's path inside its layer, such
as `gate_dense/kernel`, to its value. Letters as in the layers: `B` batch, `N` heads,
`T` query length, `S` key length, `D` width.
"""

import math

import numpy as np

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "squared_relu": lambda x: np.maximum(x, 0.0) ** 2,
    # x times the normal distribution function of x.
    "gelu": lambda x: x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0))),
}


def dense(x, w, name, activation="linear"):
    y = x @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0.0)
    return ACTIVATIONS[activation](y)


def rope(x, positions=None, base=10000.0):
    """Equation 15 of RoFormer: every pair (2i, 2i+1) times a 2x2 rotation.

    `x` is `(..., L, dim)`; `positions` broadcast to `(..., L)`, by default `0 .. L-1`.
    """
    x = np.asarray(x, "float64")
    dim = x.shape[-1]
    if positions is None:
        positions = np.arange(x.shape[-2])
    positions = np.broadcast_to(np.asarray(positions, "float64"), x.shape[:-1])
    y = np.empty_like(x)
    for where in np.ndindex(x.shape[:-1]):
        for i in range(dim // 2):
            angle = positions[where] * base ** (-2.0 * i / dim)
            cos, sin = math.cos(angle), math.sin(angle)
            pair = slice(2 * i, 2 * i + 2)
            y[where][pair] = np.array([[cos, -sin], [sin, cos]]) @ x[where][pair]
    return y


def length_scale(n, base_length=512, min_length=16):
    return math.log(max(n, min_length)) / math.log(base_length)


def normalize_row(logits, normalizer, min_length=16):
    """Weights of one query over the `n` keys that it sees."""
    n = len(logits)
    if normalizer == "squared_relu":
        return np.maximum(logits, 0.0) ** 2 / n
    if normalizer == "entropy_invariant_softmax":
        logits = logits * length_scale(n, min_length=min_length)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def attention_weights(logits, visible=None, normalizer="softmax", min_length=16):
    """`(B, N, T, S)` logits to weights; hidden keys and empty rows get zeros."""
    visible = np.broadcast_to(True if visible is None else visible, logits.shape)
    weights = np.zeros(logits.shape)
    for b, h, t in np.ndindex(logits.shape[:-1]):
        seen = np.flatnonzero(visible[b, h, t])
        if len(seen):
            row = logits[b, h, t, seen]
            weights[b, h, t, seen] = normalize_row(row, normalizer, min_length)
    return weights


def attention(
    query,
    key,
    value,
    visible=None,
    bias=0.0,
    normalizer="softmax",
    min_length=16,
    rotary=False,
    use_scale=True,
    query_positions=None,
    key_positions=None,
):
    """`(B, N, T, H)` output, weights, and scaled products before bias and mask."""
    if rotary:
        query, key = rope(query, query_positions), rope(key, key_positions)
    products = query @ np.swapaxes(key, -1, -2)
    if use_scale:
        products = products / math.sqrt(query.shape[-1])
    weights = attention_weights(products + bias, visible, normalizer, min_length)
    return weights @ value, weights, products


def over_heads(positions):
    """`(L,)` or `(B, L)` positions, made to broadcast to `(B, N, L)`."""
    return None if positions is None else np.expand_dims(positions, -2)


def gau(x, w, activation="silu", positions=None, **options):
    """`O = (U * (A V)) W_o`, `Q` and `K` from one shared vector."""
    u = dense(x, w, "gate_dense", activation)
    v = dense(x, w, "value_dense", activation)
    z = dense(x, w, "shared_dense", activation)
    q = z * w["query_scale/scale"] + w.get("query_scale/offset", 0.0)
    k = z * w["key_scale/scale"] + w.get("key_scale/offset", 0.0)
    options["query_positions"] = options["key_positions"] = over_heads(positions)
    attended, _, _ = attention(q[:, None], k[:, None], v[:, None], **options)
    return dense(u * attended[:, 0], w, "output_dense")


def cross_gau(x, y, y_value, w, activation="silu", **options):
    """The gated attention unit over another sequence."""
    u = dense(x, w, "gate_dense", activation)
    q = dense(x, w, "query_dense", activation)
    k = dense(y, w, "key_dense", activation)
    v = dense(y_value, w, "value_dense", activation)
    attended, _, _ = attention(q[:, None], k[:, None], v[:, None], **options)
    return dense(u * attended[:, 0], w, "output_dense")


def multi_head_attention(x, y, y_value, w, num_heads, **options):
    """Output `(B, T, D)`, weights and scaled products `(B, N, T, S)`."""
    for name in ("query_positions", "key_positions"):
        options[name] = over_heads(options.get(name))

    def heads(x, name):
        parts = np.split(dense(x, w, name), num_heads, axis=-1)
        return np.stack(parts, axis=1)

    q, k = heads(x, "query_dense"), heads(y, "key_dense")
    attended, weights, products = attention(
        q, k, heads(y_value, "value_dense"), **options
    )
    joined = np.concatenate([attended[:, h] for h in range(num_heads)], axis=-1)
    return dense(joined, w, "output_dense"), weights, products


def feed_forward(x, w, activations):
    """`(f_1(x W_1) * f_2(x W_2) * ...) W_o`."""
    first, *others = activations
    hidden = dense(x, w, "intermediate_dense", first)
    for i, activation in enumerate(others, start=1):
        hidden = hidden * dense(x, w, f"gate_dense_{i}", activation)
    return dense(hidden, w, "output_dense")


def standardize(x, zero_mean=True, unit_variance=True, epsilon=1e-7):
    """One vector at a time: minus its mean, divided by its root mean square."""
    y = np.empty(np.shape(x))
    for where in np.ndindex(y.shape[:-1]):
        row = np.asarray(x[where], "float64")
        if zero_mean:
            row = row - row.mean()
        if unit_variance:
            row = row / math.sqrt((row**2).mean() + epsilon)
        y[where] = row
    return y


def scale_offset(x, w):
    return x * w.get("scale", 1.0) + w.get("offset", 0.0)


def conditional_scale_offset(x, condition, w, activation="linear"):
    """`x * (scale + A h) + (offset + B h)` with `h = activation(W c)`."""
    h = condition.reshape((len(x),) + (1,) * (x.ndim - 2) + (-1,))
    if "hidden_dense/kernel" in w:
        h = dense(h, w, "hidden_dense", activation)
    scale, offset = w.get("base/scale", 1.0), w.get("base/offset", 0.0)
    if "scale_dense/kernel" in w:
        scale = scale + dense(h, w, "scale_dense")
    if "offset_dense/kernel" in w:
        offset = offset + dense(h, w, "offset_dense")
    return x * scale + offset


def sub_weights(w, name):
    """The weights below one sublayer, with its name taken off their paths."""
    prefix = f"{name}/"
    return {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}


def transformer_layer(x, w, num_heads, activations, norm, epsilon, **options):
    """Post-norm: `x = N(x + Attention(x))`, then `x = N(x + FeedForward(x))`."""

    def add_and_norm(x, update, name):
        y = standardize(x + update, zero_mean=norm == "layer_norm", epsilon=epsilon)
        return y * w.get(f"{name}/gamma", 1.0) + w.get(f"{name}/beta", 0.0)

    inner = sub_weights(w, "attention")
    attended, _, _ = multi_head_attention(x, x, x, inner, num_heads, **options)
    x = add_and_norm(x, attended, "attention_norm")
    fed = feed_forward(x, sub_weights(w, "feed_forward"), activations)
    return add_and_norm(x, fed, "feed_forward_norm")


def visible_keys(kind, padding_mask, segment_ids=None):
    """`(B, 1, T, T)`: the structural masks pair by pair, and the padding."""
    batch, length = padding_mask.shape
    visible = np.zeros((batch, 1, length, length), bool)
    for b, i, j in np.ndindex(batch, length, length):
        if kind == "prefix":
            allowed = segment_ids[b, : j + 1].sum() <= segment_ids[b, : i + 1].sum()
        else:
            allowed = kind == "bidirectional" or j <= i
        visible[b, 0, i, j] = allowed and bool(padding_mask[b, j])
    return visible
