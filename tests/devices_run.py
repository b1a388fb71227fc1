"""Losses of a small run on the devices of this process, printed as JSON.

python tests/devices_run.py one 4x1 2x2 1x4          (JAX, devices forced)
python tests/devices_run.py 2x1 --process 0 --address 127.0.0.1:PORT
"""

import argparse
import json

import keras
import numpy as np

from bert4keras3.models import GAUAlphaBackbone, RoFormerV2Backbone
from bert4keras3.tasks.masked_lm import MaskedLM
from bert4keras3.training.ahead_of_time import data_parallel, model_parallel

ROWS, LENGTH, STEPS = 8, 16, 4
MAKERS = {
    "gau_alpha": lambda rate: GAUAlphaBackbone(
        64, 2, 16, 32, key_dim=8, dropout=rate, attention_dropout=rate
    ),
    "roformer_v2": lambda rate: RoFormerV2Backbone(
        64, 2, 4, 16, 32, dropout=rate, attention_dropout=rate
    ),
}


def batches():
    """So many batches of ids with padding; the rows weigh differently."""
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        ids = random.integers(5, 64, (ROWS, LENGTH)).astype("int32")
        lengths = random.integers(4, LENGTH + 1, ROWS)
        ids[np.arange(LENGTH) >= lengths[:, None]] = 0
        yield ids, ids, (ids != 0).astype("float32")


def model(kind="gau_alpha", rate=0.0, **options):
    keras.utils.set_random_seed(0)
    task = MaskedLM(MAKERS[kind](rate), None)
    task.compile(
        keras.optimizers.AdamW(3e-3, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        jit_compile=True,
        **options,
    )
    return task


def losses(kind, mesh, rate, process=0, processes=1):
    """Train on a mesh; every process takes its part of each batch."""
    distribution = None
    if mesh != "one":
        shape = [int(size) for size in mesh.split("x")]
        devices = keras.distribution.list_devices()
        distribution = (
            data_parallel(devices[: shape[0]])
            if shape[1] == 1
            else model_parallel(devices, shape, type(MAKERS[kind](0.0)))
        )
    keras.distribution.set_distribution(distribution)
    task = model(kind, rate)
    part = slice(process * ROWS // processes, (process + 1) * ROWS // processes)
    return [
        float(task.train_on_batch(*(array[part] for array in batch)))
        for batch in batches()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("meshes", nargs="+")
    parser.add_argument("--kind", default="gau_alpha")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--address", help="of the first process")
    options = parser.parse_args()
    if options.address:
        keras.distribution.initialize(
            options.address, options.processes, options.process
        )
    found = {
        mesh: losses(
            options.kind, mesh, options.dropout, options.process, options.processes
        )
        for mesh in options.meshes
    }
    print(json.dumps(found))
