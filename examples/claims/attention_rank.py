"""Rank and determinant of attention matrices, with and without a causal mask.

Task: random queries and keys (n = 256, size 32); rank and log determinant of A.
Claim: a causal softmax matrix is triangular with a positive diagonal, so its
    determinant is positive and its rank full, while linear attention in both
    directions cannot pass the size of its heads.
    The post argues that softmax in both directions is low in rank too. Random logits
    do not show that: its numerical rank is full here, and the effective rank is given
    beside it. No claim is made of what a trained model does.
Command: python examples/claims/attention_rank.py --output docs/claims
    python examples/claims/attention_rank.py --smoke
Hardware: one CPU core, seconds.
Score: rank, effective rank (exponential of the entropy of the singular values),
    sign and logarithm of the determinant.
Source: https://kexue.fm/archives/9529
"""

import keras
import numpy as np
import report
from keras import ops

from bert4keras3.layers import DotProductAttention

LENGTH, DIM = 256, 32
SCALES = (0.3, 1.0, 3.0)


def softmax_weights(query, key, causal):
    """`(n, n)` weights of our attention core."""
    mask = np.tril(np.ones((1, 1, len(query), len(key)), bool)) if causal else None
    query, key = query[None, None], key[None, None]
    _, weights = DotProductAttention()(
        query, key, key, attention_mask=mask, return_weights=True
    )
    return np.asarray(ops.convert_to_numpy(weights), "float64")[0, 0]


def linear_weights(query, key, causal):
    """Linear attention with the features `elu(x) + 1`."""
    query, key = (np.where(x > 0, x + 1, np.exp(x)) for x in (query, key))
    products = query.astype("float64") @ key.T.astype("float64")
    if causal:
        products = np.tril(products)
    return products / products.sum(1, keepdims=True)


def figures(weights):
    values = np.linalg.svd(weights, compute_uv=False)
    shares = values / values.sum()
    effective = np.exp(-(shares * np.log(shares + 1e-300)).sum())
    rank = (values > values[0] * len(weights) * np.finfo("float64").eps).sum()
    sign, logarithm = np.linalg.slogdet(weights)
    return [rank, effective, sign, logarithm]


def measure(kind, causal, scale, length):
    seed = keras.random.SeedGenerator()
    query, key = (
        ops.convert_to_numpy(keras.random.normal((length, DIM), seed=seed))
        for _ in range(2)
    )
    return figures(kind(query * scale, key, causal))


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    length = 48 if options.smoke else LENGTH
    rows = {
        f"{name}, {direction}, logits of {scale:g}": report.by_seed(
            options, lambda k=kind, c=causal, s=scale: measure(k, c, s, length)
        )
        for name, kind in (("softmax", softmax_weights), ("linear", linear_weights))
        for direction, causal in (("both ways", False), ("causal", True))
        for scale in (SCALES if kind is softmax_weights else (1.0,))
    }
    columns = ["matrix", "rank", "effective rank", "sign of det", "log |det|"]
    report.print_table(columns, rows, "{:.4g}")


if __name__ == "__main__":
    main()
