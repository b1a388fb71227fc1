"""Reading the golden fixtures: inputs and outputs of the original code.

`BERT4KERAS3_GOLDEN` names another folder of the same form, to hold the library
against fixtures of other sizes.
"""

import functools
import json
import os
from pathlib import Path

import keras
import numpy as np

import zoo

GOLDEN = Path(os.environ.get("BERT4KERAS3_GOLDEN") or Path(__file__).parent / "golden")
MODELS = GOLDEN / "models"
TORCH = GOLDEN / "torch"

# Build arguments of the original -> ours.
APPLICATIONS = {"lm": "causal", "unilm": "prefix"}
POOLERS = {True: "tanh", "linear": "linear"}
HIDDEN_TOLERANCE = 1e-4
LOGITS_TOLERANCE = 3e-4


def model_cases():
    return sorted(path.name for path in MODELS.iterdir())


def variants():
    """`(case, tag)` of every model variant in the fixtures."""
    return [
        (case, variant["tag"])
        for case in model_cases()
        for variant in read_case(case).get("variants", ())
    ]


@functools.cache
def read_case(case):
    return json.loads((MODELS / case / "case.json").read_text(encoding="utf-8"))


def batches(case):
    """Name -> arrays (without the name as a prefix) of every batch of a case."""
    found = {}
    for path in sorted((MODELS / case).glob("cases_*.npz")):
        name = path.stem.removeprefix("cases_")
        with np.load(path) as arrays:
            found[name] = {
                key.removeprefix(f"{name}__"): arrays[key] for key in arrays.files
            }
    return found


def load_arguments(case, tag):
    """Arguments of `zoo.load` that build what the original built for a variant."""
    spec = read_case(case)
    variant = next(each for each in spec["variants"] if each["tag"] == tag)
    build = variant["build_kwargs"]
    arguments = {}
    if "application" in build:
        arguments["attention"] = APPLICATIONS[build["application"]]
    if "with_pool" in build:
        arguments["pooler"] = POOLERS[build["with_pool"]]
    if build.get("with_nsp"):
        arguments["pooler"] = "tanh"
    if build.get("custom_position_ids"):
        arguments["use_position_ids"] = True
    if build.get("keep_tokens"):
        arguments["keep_tokens"] = spec["notes"]["keep_tokens"]
        arguments["compound_tokens"] = spec["notes"]["compound_tokens"]
    return arguments


def model_inputs(batch, token_key="token_ids"):
    inputs = {
        "token_ids": batch[token_key],
        "segment_ids": batch["segment_ids"],
        "padding_mask": batch["mask"],
    }
    if "position_ids" in batch:
        inputs["position_ids"] = batch["position_ids"]
    return inputs


TASK_OF_OUTPUT = {
    "hidden": None,
    "pooled": None,
    "logits": "masked_lm",
    "probs": "masked_lm",
    "nsp_probs": "next_sentence",
}


def compute(source, output, inputs, **arguments):
    """One output of the original's kinds, by our model."""
    task = TASK_OF_OUTPUT[output]
    model = zoo.load(source, task=task, preprocessor=None, **arguments)
    result = model(inputs, training=False)
    if isinstance(result, dict):
        result = result["pooled" if output == "pooled" else "hidden_states"]
    if output.endswith("probs"):
        result = keras.ops.softmax(result, axis=-1)
    return keras.ops.convert_to_numpy(result)


def to_numpy(tensor):
    # Through a tensor: NumPy 2 warns when it meets a TensorFlow variable.
    tensor = keras.ops.convert_to_tensor(tensor)
    return np.asarray(keras.ops.convert_to_numpy(tensor)).astype("float32")
