"""Language models trained short and tested long, without further training.

Task: next character of Chinese text; trained on rows of 64, tested up to 512. Half of
    the rows repeat themselves, which tells whether a model still sees far.
Claim: NTK-scaled RoPE reads longer rows than interpolated RoPE; YaRN, ReRoPE and its
    leaky forms do better still, log-n scaled logits help all of them; window layers
    with one full layer (HWFA, HWFA2) and normalized keys need nothing at prediction.
Command: python examples/claims/train_short_test_long.py --data FOLDER \
    --output docs/claims
    python examples/claims/train_short_test_long.py --smoke
Hardware: two CPU cores, about 2 minutes for each of 7 systems and 3 seeds.
Score: accuracy and loss in nats of the last 16 characters of a row: the same ones at
    every length.
Source: https://kexue.fm/archives/9603, 9675, 9706, 9708, 9728, 9731, 9859 and 9948
"""

import language_model
import report
from language_model import LENGTHS, TRAIN_LENGTH

from bert4keras3 import layers
from bert4keras3.models import RoFormerV2Backbone

# The source has a GAU of 24 layers. One of this size takes several times as many steps
# to learn to copy, without which the repetitions tell nothing.
SIZES = {"num_layers": 3, "num_heads": 4, "hidden_dim": 64, "intermediate_dim": 256}
EXPANSION = max(LENGTHS) / TRAIN_LENGTH
LOG_N = layers.EntropyInvariantSoftmax(base_length=TRAIN_LENGTH, min_length=1)
# The whole number of places w with (w - 1) (layers - 1) + 1 <= 3/4 of the length.
HWFA = layers.HWFA.for_training_length(TRAIN_LENGTH, SIZES["num_layers"], min_length=1)
HWFA2 = {"window": 2 * TRAIN_LENGTH // SIZES["num_layers"], "num_full_layers": 1}
QUARTER = {"window": TRAIN_LENGTH // 4, "bidirectional": False}
REROPE = layers.ReRoPE(**QUARTER)

# Name -> arguments while training.
SYSTEMS = {
    "RoPE": {"normalizer": "softmax"},
    "RoPE, log n": {"normalizer": LOG_N},
    "KeyNorm": {"normalizer": "softmax", "query_key_norm": "key_norm"},
    "CosA": {
        "normalizer": "softmax",
        "query_key_norm": layers.CosineNorm(length=TRAIN_LENGTH // 2),
    },
    "HWFA": {"normalizer": "softmax", "attention": HWFA},
    "HWFA2": {"normalizer": LOG_N, "attention": layers.HWFA2(**HWFA2)},
    "InvLeaky": {
        "normalizer": LOG_N,
        "rotary_embedding": layers.InvLeakyReRoPE(factor=2 * EXPANSION, **QUARTER),
    },
}
SCALED = {
    "PI": layers.LinearInterpolation(EXPANSION),
    "NTK": layers.NTKRoPE(EXPANSION),
    "NTK fixed": layers.NTKFixed(EXPANSION),
    "NTK mixed": layers.NTKMixed(EXPANSION),
    # 10 turns are the most that a pair makes in 64 places: 32 would keep none.
    "YaRN": layers.YaRN(EXPANSION, train_length=TRAIN_LENGTH, fast_turns=8),
    "dynamic NTK": layers.DynamicNTK(TRAIN_LENGTH),
    "ReRoPE": REROPE,
    "Leaky ReRoPE": layers.LeakyReRoPE(factor=2 * EXPANSION, **QUARTER),
}
# Trained system -> what else it is tested with: name -> arguments that change.
AT_PREDICTION = {
    "RoPE": {
        **{name: {"rotary_embedding": rotary} for name, rotary in SCALED.items()},
        "ReRoPE, logn†": {
            "rotary_embedding": REROPE,
            "normalizer": layers.PredictionLogSoftmax(base_length=TRAIN_LENGTH),
        },
    },
    "RoPE, log n": {
        f"{name}, log n": {"rotary_embedding": SCALED[name]}
        for name in ("NTK mixed", "YaRN", "ReRoPE")
    },
    "KeyNorm": {"KeyNorm, ReRoPE": {"rotary_embedding": REROPE}},
    "CosA": {"CosA, ReRoPE": {"rotary_embedding": REROPE}},
    "HWFA2": {
        "HWFA2, ReRoPE": {
            "attention": layers.HWFA2(full_rotary_embedding=REROPE, **HWFA2)
        }
    },
    "InvLeaky": {"InvLeaky, RoPE": {"rotary_embedding": "rope"}},
}


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments, data=True)
    text = language_model.ChineseText(options.data)
    steps, lengths = (3, LENGTHS[:2]) if options.smoke else (1500, LENGTHS)
    systems = dict(list(SYSTEMS.items())[-1:]) if options.smoke else SYSTEMS
    language_model.compare(
        options,
        "train_short_test_long",
        text,
        RoFormerV2Backbone,
        SIZES,
        systems,
        AT_PREDICTION,
        steps,
        lengths,
    )


if __name__ == "__main__":
    main()
