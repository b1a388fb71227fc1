"""A row of equal tokens: can a model with relative positions say where each one is?

Task: read 32 equal tokens, give the place of each.
Claim: softmax attention with positions on the logits alone cannot, since each row of
    weights sums to one and all values are equal; URPE, values that know distances, and
    normalizers without that sum can, and so can softmax between [CLS] and [SEP].
Command: python examples/claims/position_probe.py --output docs/claims
    python examples/claims/position_probe.py --smoke
Hardware: two CPU cores, 3 minutes.
Score: accuracy after 600 steps, and the first step at which every place is right.
Source: https://kexue.fm/archives/9105
"""

import keras
import numpy as np
import report

from bert4keras3.models import RoFormerV2Backbone

LENGTH, HIDDEN_DIM = 32, 64
# Name -> arguments of the backbone. "anchors" puts [CLS] and [SEP] around the row.
SYSTEMS = {
    "softmax": {},
    "softmax, causal": {"attention": "causal"},
    "softmax, [CLS] and [SEP]": {"anchors": True},
    "URPE": {"position_weighting": "urpe"},
    "Shaw": {"position_bias": "shaw"},
    "no denominator": {"normalizer": "exponential"},
    "relu²/n": {"normalizer": "squared_relu"},
    "l2": {"normalizer": "l2"},
}


def build(anchors=False, **arguments):
    """Two post-norm layers and a classifier of places."""
    backbone = RoFormerV2Backbone(
        4, 2, 4, HIDDEN_DIM, 4 * HIDDEN_DIM, dropout=0, attention_dropout=0, **arguments
    )
    token_ids = keras.Input((LENGTH + 2 * anchors,), dtype="int32")
    hidden = backbone({"token_ids": token_ids})
    if anchors:
        hidden = hidden[:, 1:-1]
    model = keras.Model(token_ids, keras.layers.Dense(LENGTH)(hidden))
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() != "torch",
    )
    return model


def learning_curve(steps, every, anchors=False, **arguments):
    """Accuracy before every `every`-th step, and at the end."""
    model = build(anchors, **arguments)
    row = [2, *[1] * LENGTH, 3] if anchors else [1] * LENGTH
    inputs = np.array([row], "int32")
    targets = np.arange(LENGTH)[None]
    curve = []
    for step in range(steps + 1):
        logs = model.train_on_batch(inputs, targets, return_dict=True)
        model.reset_metrics()
        if step % every == 0:
            curve.append(float(logs["accuracy"]))
    return curve


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments)
    steps, every = (20, 10) if options.smoke else (600, 10)
    systems = list(SYSTEMS.items())
    if options.smoke:
        systems = systems[2:4]
    curves = {
        name: report.by_seed(
            options, lambda s=system: learning_curve(steps, every, **s)
        )
        for name, system in systems
    }
    at = np.arange(0, steps + 1, every)
    rows = {}
    for name, curve in curves.items():
        solved = np.where(curve.max(1) == 1, at[curve.argmax(1)], np.nan)
        rows[name] = np.stack([curve[:, -1], solved], axis=1)
    report.print_table(["system", "accuracy", "solved at step"], rows, "{:.3g}")
    report.save(options, "position_probe", "step", "accuracy", at, curves)


if __name__ == "__main__":
    main()
