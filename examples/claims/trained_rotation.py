"""Trained rotations against RoPE, in softmax and in linear attention.

Task: masked tokens of a Markov chain, length 32, which needs to know the neighbours.
Claim: in softmax attention the blocks of RoPE lose nothing against `exp(n B)`, as the
    kernels of query and key take up any change of basis. In linear attention features
    stand between the kernels and the rotation, and a general one may help.
Command: python examples/claims/trained_rotation.py --output docs/claims
    python examples/claims/trained_rotation.py --smoke
Hardware: one CPU core, 10 to 60 seconds for each system, attention and seed.
Score: loss on fresh rows. A seed gives the same rows to all systems, so that their
    differences to RoPE are printed too.
Source: https://kexue.fm/archives/9403
"""

import keras
import numpy as np
import report
from keras import ops
from markov_text import MarkovText

from bert4keras3.layers import FeedForward, LinearAttention, MultiHeadAttention, RMSNorm
from bert4keras3.layers.rotary_embedding import RotaryEmbedding
from bert4keras3.layers.rotary_general import OrthogonalRotation

DIM, HEADS, ROWS, STEPS, POINTS = 16, 2, 16, 600, 6
TURNED = "rope in a random basis"
TRAINED_ANGLES, SPREAD_ANGLES = "rope, trained angles", "rope, spread trained angles"
SYSTEMS = (
    "none",
    "rope",
    TURNED,
    TRAINED_ANGLES,
    SPREAD_ANGLES,
    "exponential",
    "orthogonal",
)


class TurnedRotaryEmbedding(RotaryEmbedding):
    """`P R_n P^T` with a random orthogonal `P`: `exp(n B)`, not trained."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        basis, _ = np.linalg.qr(np.random.normal(size=(DIM, DIM)))
        self.basis = basis.astype("float32")

    def rotate(self, x, positions=None):
        turned = super().rotate(ops.matmul(x, self.basis), positions)
        return ops.matmul(turned, self.basis.T)


class TrainedAnglesRotaryEmbedding(RotaryEmbedding):
    """RoPE whose angles are weights: blocks, trained. They start as those of RoPE, or
    spread over the half circle, as those of a random orthogonal matrix are."""

    def __init__(self, spread=False, **kwargs):
        super().__init__(**kwargs)
        start = super().frequencies(DIM)
        if spread:
            start = np.random.uniform(0, np.pi, DIM // 2)
        self.angles = self.add_weight(
            name="angles",
            shape=(DIM // 2,),
            initializer=keras.initializers.Constant(start),
        )

    def frequencies(self, dim):
        return self.angles


def make_rotation(system):
    if system == "orthogonal":
        return OrthogonalRotation(num_reflections=DIM)
    if system in (TRAINED_ANGLES, SPREAD_ANGLES):
        return TrainedAnglesRotaryEmbedding(spread=system == SPREAD_ANGLES)
    if system == TURNED:
        return TurnedRotaryEmbedding()
    return None if system == "none" else system


def build(kind, system, vocabulary_size, steps):
    """One Transformer layer."""
    rotation = make_rotation(system)
    if kind == "linear":
        attention = LinearAttention(HEADS, rotary_embedding=rotation)
    else:
        attention = MultiHeadAttention(HEADS, DIM, rotary_embedding=rotation)
    token_ids = keras.Input((None,), dtype="int32")
    x = RMSNorm()(keras.layers.Embedding(vocabulary_size, HEADS * DIM)(token_ids))
    x = RMSNorm()(x + attention(x))
    x = RMSNorm()(x + FeedForward(4 * HEADS * DIM)(x))
    model = keras.Model(token_ids, keras.layers.Dense(vocabulary_size)(x))
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(3e-3, steps), global_clipnorm=1.0
        ),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        # A single step is not worth the compilation.
        jit_compile=steps > 1 and keras.backend.backend() != "torch",
    )
    return model


def losses(kind, system, steps, points):
    """Loss on fresh rows at `points` moments of the training."""
    text, fresh = MarkovText(), MarkovText()  # the same chain for all seeds
    text.rng, fresh.rng = np.random.default_rng(np.random.randint(2**31)).spawn(2)
    model = build(kind, system, text.vocabulary_size, steps)
    test_rows = fresh.masked(512, 32)
    curve = []
    for step in range(1, steps + 1):
        model.train_on_batch(*text.masked(ROWS, 32))
        if step % (steps // points) == 0:
            model.reset_metrics()
            curve.append(float(model.test_on_batch(*test_rows)))
            model.reset_metrics()
    return curve


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    steps, points = (1, 1) if options.smoke else (STEPS, POINTS)
    x = np.arange(1, points + 1) * (steps // points)
    for kind in ("softmax", "linear"):
        curves = {
            system: report.by_seed(
                options, lambda k=kind, s=system: losses(k, s, steps, points)
            )
            for system in (SYSTEMS[1:2] if options.smoke else SYSTEMS)
        }
        last = {
            name: np.stack([curve[:, -1], (curve - curves["rope"])[:, -1]], 1)
            for name, curve in curves.items()
        }
        report.print_table([f"{kind} attention", "loss", "loss - RoPE"], last, "{:.4f}")
        report.save(options, f"trained_rotation_{kind}", "step", "loss", x, curves)


if __name__ == "__main__":
    main()
