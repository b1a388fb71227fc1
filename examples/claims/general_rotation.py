"""Rotations in general, `exp(n B)` and `O ** n`, are RoPE in another basis.

Task: products of random queries and keys of size 16, at positions to 64 and 1000 places
    further; in float64 with matrices, and in float32 with our layers.
Claim: `(R_m q)^T (R_n k)` depends on `n - m` only, for `R_n = exp(n B)` with a skew `B`
    and for powers of an orthogonal matrix; and `exp(n B)` is RoPE, with the angles of
    its own, between `P^T q` and `P^T k`, where `P` brings `B` into its real Schur form.
    The kernels of query and key take `P` up: the blocks of RoPE lose no generality.
Command: python examples/claims/general_rotation.py
    python examples/claims/general_rotation.py --smoke
Hardware: one CPU core, seconds.
Score: largest error of a product, relative to the largest product.
Source: https://kexue.fm/archives/9403
"""

import numpy as np
import report
from keras import ops

from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.rotary_general import ExponentialRotation, OrthogonalRotation

DIM, PLACES = 16, 65
IDENTITIES = (
    "exp(nB), `R_m q . R_n k` against `q^T R_{n-m} k`",
    "exp(nB), against RoPE in the basis of its Schur form",
    "exp(nB), 1000 places further",
    "O^n, determinant 1, 1000 places further",
    "O^n, determinant -1, 1000 places further",
)


class GivenAngles(RotaryEmbedding):
    """RoPE with angles of our own."""

    def frequencies(self, dim):
        return self.angles


def schur_form(skew):
    """Angles `w` and an orthogonal `P`: `B = P diag([[0, -w], [w, 0]], ...) P^T`."""
    values, vectors = np.linalg.eigh(1j * skew)
    values, vectors = values[len(skew) // 2 :], vectors[:, len(skew) // 2 :]
    basis = np.stack([vectors.real, vectors.imag], -1) * np.sqrt(2)
    return values, basis.reshape(skew.shape)


def exponential(skew):
    """`exp(B)` by a series of `B / 256`, squared eight times."""
    total = np.eye(len(skew))
    for order in range(12, 0, -1):
        total = np.eye(len(skew)) + skew / 256 @ total / order
    return np.linalg.matrix_power(total, 256)


def by_matrix(rotation):
    """Turns rows by powers of a matrix, in float64."""

    def turn(x, positions):
        powers = [np.linalg.matrix_power(rotation, n) for n in positions]
        return np.einsum("nij,nj->ni", powers, x)

    return turn


def by_layer(layer):
    """Turns rows by one of our layers, in float32."""
    if not layer.built:
        layer.build((None, None, DIM))

    def turn(x, positions):
        turned = layer.rotate(ops.convert_to_tensor(x[None], "float32"), positions)
        return np.asarray(ops.convert_to_numpy(turned), "float64")[0]

    return turn


def products(turn, query, key, first=0):
    places = np.arange(first, first + PLACES)
    return turn(query, places) @ turn(key, places).T


def random_orthogonal(sign):
    matrix, _ = np.linalg.qr(np.random.normal(size=(DIM, DIM)))
    matrix[0] *= sign * np.sign(np.linalg.det(matrix))
    return matrix


def error(scores, wanted):
    return np.abs(scores - wanted).max() / np.abs(wanted).max()


def numeric_errors():
    """Errors of the identities: one row each, in float64 and in our float32 layers."""
    query, key = np.random.normal(size=(2, PLACES, DIM))
    half = np.random.normal(size=(DIM, DIM)) / 8
    angles, basis = schur_form(half - half.T)
    rotation = exponential(half - half.T)
    blocks = np.kron(np.diag(np.cos(angles)), np.eye(2))
    blocks += np.kron(np.diag(np.sin(angles)), [[0, -1], [1, 0]])
    matrices = [rotation, blocks, random_orthogonal(1), random_orthogonal(-1)]
    layers = [ExponentialRotation(), GivenAngles()]
    layers += [OrthogonalRotation(num_reflections=n) for n in (DIM, DIM - 1)]
    turns = [by_layer(layer) for layer in layers]
    layers[0].generator.assign(half)
    layers[1].angles = angles.astype("float32")

    powers = [np.linalg.matrix_power(rotation, n) for n in range(1 - PLACES, PLACES)]
    apart = np.arange(PLACES) - np.arange(PLACES)[:, None] + PLACES - 1
    wanted = np.einsum("mi,mnij,nj->mn", query, np.array(powers)[apart], key)
    columns = []
    for general, in_blocks, *orthogonals in ([*map(by_matrix, matrices)], turns):
        scores = products(general, query, key)
        in_basis = products(in_blocks, query @ basis, key @ basis)
        column = [error(scores, wanted), error(in_basis, scores)]
        for turn in (general, *orthogonals):
            further = products(turn, query, key, 1000)
            column.append(error(further, products(turn, query, key)))
        columns.append(column)
    return np.transpose(columns)


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    figures = report.by_seed(options, numeric_errors)
    rows = {name: figures[:, i] for i, name in enumerate(IDENTITIES)}
    report.print_table(["error", "float64", "float32, our layers"], rows, "{:.1e}")


if __name__ == "__main__":
    main()
