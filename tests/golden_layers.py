"""Reading the golden layer fixtures: what bert4keras 0.11.5 gave, layer by layer.

`BERT4KERAS3_GOLDEN` names another folder of the same form, to hold the library
against fixtures of other sizes.
"""

import dataclasses
import functools
import json
import os
from pathlib import Path

import numpy as np

OURS = Path(__file__).parent / "golden"
GOLDEN = Path(os.environ.get("BERT4KERAS3_GOLDEN") or OURS)
LAYERS = GOLDEN / "layers"
TOLERANCE = 1e-4

# bert4keras's names of activations -> Keras's.
ACTIVATIONS = {"swish": "silu", "gelu": "gelu", "relu": "relu"}


@dataclasses.dataclass
class LayerCase:
    """One stored call: arguments of the original, arrays in, arrays out."""

    name: str
    ctor: dict
    options: dict
    inputs: dict
    masks: dict
    weights: dict
    outputs: list
    note: str | None


@functools.cache
def index():
    return json.loads((LAYERS / "index.json").read_text(encoding="utf-8"))


def file_names():
    """Every file of the folder, without its suffix, but for the index."""
    return sorted(path.stem for path in LAYERS.iterdir() if path.stem != "index")


def names(*prefixes, without=()):
    """Cases whose name starts with one of `prefixes` and with none of `without`."""
    found = [
        name
        for name in file_names()
        if name.startswith(prefixes) and not (without and name.startswith(without))
    ]
    assert found, f"no fixture starts with {prefixes}"
    return found


def arrays(name):
    with np.load(LAYERS / f"{name}.npz", allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def read(name):
    """The case of this name; weights are float64 and keyed `sublayer/weight`."""
    spec = index()[name]
    stored = arrays(name)

    def group(prefix):
        return {
            key.removeprefix(prefix): value
            for key, value in stored.items()
            if key.startswith(prefix)
        }

    inputs = group("in__")
    for key in spec["bool_inputs"]:
        inputs[key] = inputs[key].astype(bool)
    weights = {
        key.replace("__", "/"): value.astype("float64")
        for key, value in group("w__").items()
    }
    assert set(weights) == {key.replace("__", "/") for key in spec["weight_order"]}
    return LayerCase(
        name=name,
        ctor=spec["ctor"],
        options=spec["call"],
        inputs=inputs,
        masks=group("mask__"),
        weights=weights,
        outputs=[stored[key] for key in sorted(stored) if key.startswith("out")],
        note=spec["note"],
    )


def sides(weights, name, into):
    """Cut one original dense layer into several of ours, side by side.

    `into` is a list of `(our name, width)`.
    """
    ends = np.cumsum([width for _, width in into])
    cut = {}
    for kind in ("kernel", "bias"):
        if f"{name}/{kind}" in weights:
            whole = weights[f"{name}/{kind}"]
            assert whole.shape[-1] == ends[-1]
            parts = np.split(whole, ends[:-1], axis=-1)
            for (ours, _), part in zip(into, parts, strict=True):
                cut[f"{ours}/{kind}"] = part
    return cut


def renamed(weights, table, kinds=None):
    """Rename sublayers by `table`, and `gamma` and `beta` unless `kinds` differs."""
    if kinds is None:
        kinds = {"gamma": "scale", "beta": "offset"}
    out = {}
    for path, value in weights.items():
        layer, _, kind = path.rpartition("/")
        if layer in table:
            out["/".join(filter(None, (table[layer], kinds.get(kind, kind))))] = value
    return out


def check_positions_count_from_zero(table):
    """A stored sinusoidal table `(1, L, dim)` is that of positions `0 .. L-1`."""
    length, dim = table.shape[1:]
    for position in range(length):
        for i in range(dim // 2):
            angle = position * 10000.0 ** (-2.0 * i / dim)
            pair = table[0, position, 2 * i : 2 * i + 2]
            np.testing.assert_allclose(pair, [np.sin(angle), np.cos(angle)], atol=1e-4)
