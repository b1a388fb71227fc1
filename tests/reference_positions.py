"""Independent NumPy versions of the rotary variants and of the query-key norms.

Like `reference.py`: float64, from the formulas, one pair of places at a time. A rotary
variant is a function of `(query, key, m, n)`, two vectors and their two positions,
that gives their logit.
"""

import math

import numpy as np
from reference import attention_weights, dense


def turn(x, position, frequencies):
    """Equation 15 of RoFormer for one vector and any frequencies."""
    y = np.empty(len(x))
    for i, frequency in enumerate(frequencies):
        cos, sin = math.cos(position * frequency), math.sin(position * frequency)
        y[2 * i] = x[2 * i] * cos - x[2 * i + 1] * sin
        y[2 * i + 1] = x[2 * i + 1] * cos + x[2 * i] * sin
    return y


def rope_frequencies(dim, base=10000.0):
    return [base ** (-2.0 * i / dim) for i in range(dim // 2)]


def by_distance(query, key, distance, frequencies):
    return turn(query, distance, frequencies) @ key


def linear_interpolation(query, key, m, n, k=8.0):
    return by_distance(query, key, (m - n) / k, rope_frequencies(len(query)))


def ntk_old(query, key, m, n, k=8.0, exact=False):
    dim = len(query)
    step = 10000.0 ** (2.0 / dim)
    stretch = k ** (2.0 / (dim - 2 if exact else dim))
    frequencies = [1 / (step * stretch) ** i for i in range(dim // 2)]
    return by_distance(query, key, m - n, frequencies)


def ntk_fixed(query, key, m, n, k=8.0):
    dim = len(query)
    step, stretch = 10000.0 ** (2.0 / dim), k ** (2.0 / dim)
    frequencies = [
        1 / (stretch * (step * stretch) ** (i - 1)) for i in range(1, dim // 2 + 1)
    ]
    return by_distance(query, key, m - n, frequencies)


def ntk_mixed(query, key, m, n, k=8.0, b=0.625):
    dim = len(query)
    a = math.log(k) / (dim / 2) ** b
    step = 10000.0 ** (2.0 / dim)
    frequencies = [
        1 / (step ** (i - 1) * math.exp(a * i**b)) for i in range(1, dim // 2 + 1)
    ]
    return by_distance(query, key, m - n, frequencies)


def yarn(query, key, m, n, s=8.0, train_length=512, fast=32.0, slow=1.0):
    frequencies = []
    for frequency in rope_frequencies(len(query)):
        turns = frequency * train_length / (2 * math.pi)
        if turns > fast:
            kept = 1.0
        elif turns < slow:
            kept = 0.0
        else:
            kept = (turns - slow) / (fast - slow)
        frequencies.append((kept + (1 - kept) / s) * frequency)
    factor = (1 + 0.1 * math.log(s)) ** 2
    return factor * by_distance(query, key, m - n, frequencies)


def abf(query, key, m, n):
    return by_distance(query, key, m - n, rope_frequencies(len(query), 500000.0))


def dynamic_ntk(query, key, m, n, largest=0, train_length=512):
    s = max(train_length, largest + 1) / train_length
    frequencies = rope_frequencies(len(query), 10000.0 * s)
    return by_distance(query, key, m - n, frequencies)


def xpos(query, key, m, n, gamma=0.4, scale_base=512):
    dim = len(query)
    logit = 0.0
    for i, frequency in enumerate(rope_frequencies(dim)):
        pair = slice(2 * i, 2 * i + 2)
        zeta = (i / (dim / 2) + gamma) / (1 + gamma)
        decay = zeta ** ((m - n) / scale_base)
        logit += decay * by_distance(query[pair], key[pair], m - n, [frequency])
    return logit


def rerope(query, key, m, n, window=128):
    distance = m - n
    if abs(distance) >= window:
        distance = math.copysign(window, distance)
    return by_distance(query, key, distance, rope_frequencies(len(query)))


def leaky_rerope(query, key, m, n, window=128, k=16.0):
    distance = m - n
    if abs(distance) >= window:
        longer = window + (abs(distance) - window) / k
        distance = math.copysign(longer, distance)
    return by_distance(query, key, distance, rope_frequencies(len(query)))


def inv_leaky_rerope(query, key, m, n, window=128, k=16.0):
    return leaky_rerope(query, key, m, n, window, 1 / k)


def self_extend(query, key, m, n, window=128, group=8):
    distance = m - n
    if abs(distance) >= window:
        shift = math.copysign(window - window // group, distance)
        distance = m // group - n // group + shift
    return by_distance(query, key, distance, rope_frequencies(len(query)))


def rope_2d(query, key, m, n):
    half = len(query) // 2
    frequencies = rope_frequencies(half)
    across = by_distance(query[:half], key[:half], m[0] - n[0], frequencies)
    return across + by_distance(query[half:], key[half:], m[1] - n[1], frequencies)


def exponential(query, key, m, n, generator=None):
    """`exp(n B)` by the eigenvalues `i w` of the skew `B`."""
    values, vectors = np.linalg.eig(generator - generator.T)
    turned = vectors @ np.diag(np.exp((m - n) * values)) @ np.linalg.inv(vectors)
    return np.real(turned) @ query @ key


def orthogonal(query, key, m, n, mirrors=None):
    rotation = np.eye(len(query))
    for mirror in mirrors:
        rotation = rotation @ (
            np.eye(len(query)) - 2 * np.outer(mirror, mirror) / (mirror @ mirror)
        )
    return np.linalg.matrix_power(rotation, int(m - n)) @ query @ key


def query_norm(query, key, n):
    return query @ key / math.sqrt(query @ query)


def key_norm(query, key, n):
    return query @ key / math.sqrt(key @ key)


def cosine(query, key, n, length=256):
    cosine = query @ key / math.sqrt(query @ query) / math.sqrt(key @ key)
    return 4 * math.log(n if length is None else length) * cosine


def scores(logit, query, key, query_positions, key_positions, **options):
    """`(B, N, T, S)` logits of `logit`, two vectors at a time."""
    query, key = np.asarray(query, "float64"), np.asarray(key, "float64")
    result = np.empty((*query.shape[:-1], key.shape[-2]))
    for b, h, t, s in np.ndindex(result.shape):
        m, n = query_positions[t], key_positions[s]
        result[b, h, t, s] = logit(query[b, h, t], key[b, h, s], m, n, **options)
    return result


def attend(query, key, value, logits, visible):
    weights = attention_weights(logits(query, key), visible)
    return weights @ value


def multi_head_attention(x, w, num_heads, logits, visible):
    """`reference.multi_head_attention` of a row with itself, for any `logits(q, k)`."""

    def heads(name):
        return np.stack(np.split(dense(x, w, name), num_heads, axis=-1), axis=1)

    attended = attend(
        *(heads(f"{name}_dense") for name in ("query", "key", "value")), logits, visible
    )
    joined = np.concatenate([attended[:, h] for h in range(num_heads)], axis=-1)
    return dense(joined, w, "output_dense")


def gau(x, w, logits, visible):
    """`reference.gau` with softmax, for any `logits(q, k)`."""
    u, v, z = (
        dense(x, w, f"{name}_dense", "silu") for name in ("gate", "value", "shared")
    )
    q = z * w["query_scale/scale"] + w.get("query_scale/offset", 0.0)
    k = z * w["key_scale/scale"] + w.get("key_scale/offset", 0.0)
    attended = attend(q[:, None], k[:, None], v[:, None], logits, visible)
    return dense(u * attended[:, 0], w, "output_dense")
