"""Language models that are read at eight times the length they were trained at.

Task: next character of Chinese text; trained on rows of 64, tested up to 512. Half of
    the rows repeat themselves, which tells whether a model still sees far.
Claim: rotary positions break down soon after the length of training; a window of that
    length at prediction repairs them, and biases that fall with the distance (ALiBi,
    KERPLE, Sandwich), T5's buckets and XPOS hold as well.
Command: python examples/claims/local_attention.py --data FOLDER --output docs/claims
    python examples/claims/local_attention.py --smoke
Hardware: two CPU cores, about 2 minutes for each of 8 systems and 3 seeds.
Score: accuracy and loss in nats of the last 16 characters of a row: the same ones at
    every length.
Source: https://kexue.fm/archives/9431
"""

import language_model
import report
from language_model import LENGTHS, TRAIN_LENGTH

from bert4keras3.layers import BlockwiseCausalMask, LambdaMask, WindowMask
from bert4keras3.models import RoFormerV2Backbone

SIZES = {"num_layers": 3, "num_heads": 4, "hidden_dim": 64, "intermediate_dim": 256}


def biased(name):
    return {"rotary_embedding": None, "position_bias": name}


# Name -> arguments while training.
SYSTEMS = {
    "RoPE": {},
    "no positions": {"rotary_embedding": None},
    "T5": biased("t5_causal"),
    "ALiBi": biased("alibi"),
    "KERPLE log": biased("kerple_log"),
    "KERPLE power": biased("kerple_power"),
    "Sandwich": biased("sandwich"),
    "XPOS": {"rotary_embedding": "xpos"},
}
# Trained system -> what else it is tested with: name -> arguments that change.
AT_PREDICTION = {
    "RoPE": {
        "RoPE, window": {"attention": WindowMask(TRAIN_LENGTH)},
        "RoPE, Λ-mask": {"attention": LambdaMask(TRAIN_LENGTH - 4, num_sinks=4)},
    },
    "XPOS": {"XPOS, BCA": {"attention": BlockwiseCausalMask(TRAIN_LENGTH // 2)}},
}


def main(arguments=None):
    options = report.parse_arguments(__doc__, arguments, data=True)
    text = language_model.ChineseText(options.data)
    steps, lengths = (3, LENGTHS[:2]) if options.smoke else (1500, LENGTHS)
    systems = dict(list(SYSTEMS.items())[:1]) if options.smoke else SYSTEMS
    language_model.compare(
        options,
        "local_attention",
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
