"""Independent NumPy versions of the linear-time layers, one token at a time.

As in `reference`: float64, from the formulas, nothing of bert4keras3. `real` is a
boolean `(B, T)`.
"""

import math

import numpy as np
from reference import dense, normalize_row, rope

FEATURE_MAPS = {
    "elu_plus_one": lambda x: np.where(x > 0, x + 1.0, np.exp(np.minimum(x, 0.0))),
    "exponential": np.exp,
    "softplus": lambda x: np.log(1.0 + np.exp(x)),
}


def mixed_chunk(
    x, w, chunk_size, causal, real, activation="silu", positions=None, rotary=True
):
    """`O = (U * (V_quad + V_lin)) W_o`, sums over single keys."""
    batch, length, _ = x.shape
    u = dense(x, w, "gate_dense", activation)
    v = dense(x, w, "value_dense", activation)
    z = dense(x, w, "shared_dense", activation)
    s = z.shape[-1]

    def view(name):
        y = z * w[f"{name}/scale"] + w.get(f"{name}/offset", 0.0)
        return rope(y, positions) if rotary else y

    query, key = view("query_scale"), view("key_scale")
    linear_query, linear_key = view("linear_query_scale"), view("linear_key_scale")
    mixed = np.zeros(v.shape)
    for b in range(batch):
        tokens = [j for j in range(length) if real[b, j]]
        for i in range(length):
            chunk = i // chunk_size
            near = [j for j in tokens if j // chunk_size == chunk]
            far = tokens
            if causal:
                near = [j for j in near if j <= i]
                far = [j for j in tokens if j // chunk_size < chunk]
            for j in near:
                logit = max(query[b, i] @ key[b, j] / math.sqrt(s), 0.0)
                mixed[b, i] += logit**2 * v[b, j] / len(near)
            for j in far:
                mixed[b, i] += (linear_query[b, i] @ linear_key[b, j]) * (
                    v[b, j] / len(far)
                )
    return dense(u * mixed, w, "output_dense")


def mixed_chunk_multi_head(
    x, w, num_heads, chunk_size, causal, real, normalizer, positions=None, rotary=True
):
    """Attention within chunks and sums across them, one head and token at a time."""
    q, k, v = (dense(x, w, f"{name}_dense") for name in ("query", "key", "value"))

    def view(y, name):
        return y * w[f"{name}/scale"] + w.get(f"{name}/offset", 0.0)

    views = [q, k, view(q, "linear_query_scale"), view(k, "linear_key_scale")]
    size = q.shape[-1] // num_heads
    context = np.zeros(v.shape)
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        own = [y[..., part] for y in views]
        query, key, linear_query, linear_key = (
            rope(y, positions) if rotary else y for y in own
        )
        for b, i in np.ndindex(x.shape[:2]):
            tokens = np.flatnonzero(real[b])
            chunk = i // chunk_size
            near = [j for j in tokens if j // chunk_size == chunk]
            far = list(tokens)
            if causal:
                near = [j for j in near if j <= i]
                far = [j for j in tokens if j // chunk_size < chunk]
            if near:
                logits = np.array([query[b, i] @ key[b, j] for j in near])
                weights = normalize_row(logits / math.sqrt(size), normalizer)
                for weight, j in zip(weights, near, strict=True):
                    context[b, i, part] += weight * v[b, j, part]
            for j in far:
                product = linear_query[b, i] @ linear_key[b, j]
                context[b, i, part] += product * v[b, j, part] / len(far)
    return dense(context, w, "output_dense")


def linear_attention(
    x,
    w,
    num_heads,
    causal,
    real,
    feature_map="elu_plus_one",
    positions=None,
    rotary=True,
):
    """Rotated products over the sum of the unrotated ones."""
    batch, length, _ = x.shape
    names = ("query_dense", "key_dense", "value_dense")
    projected = [dense(x, w, name) for name in names]
    f = FEATURE_MAPS[feature_map]
    context = np.zeros(projected[2].shape)
    size = context.shape[-1] // num_heads
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = (each[..., part] for each in projected)
        q, k = f(q), f(k)
        turned_q, turned_k = (
            (rope(q, positions), rope(k, positions)) if rotary else (q, k)
        )
        for b in range(batch):
            for i in range(length):
                seen = [j for j in range(length) if real[b, j]]
                if causal:
                    seen = [j for j in seen if j <= i]
                total = sum(q[b, i] @ k[b, j] for j in seen)
                for j in seen:
                    share = turned_q[b, i] @ turned_k[b, j] / total
                    context[b, i, part] += share * v[b, j]
    return dense(context, w, "output_dense")
