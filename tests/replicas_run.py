"""Losses of a small run on TensorFlow replicas, printed as JSON.

python tests/replicas_run.py one mirrored           (two logical CPUs)
TF_CONFIG=... python tests/replicas_run.py workers
"""

import json
import sys

import numpy as np
import tensorflow as tf
from devices_run import batches, model

from bert4keras3.training.replicas import Replicas


def dataset():
    *_, (ids, labels, weights) = parts = list(batches())
    arrays = [np.stack(part) for part in zip(*parts, strict=True)]
    return tf.data.Dataset.from_tensor_slices(tuple(arrays)).repeat()


def strategies():
    cpus = tf.config.list_physical_devices("CPU")
    logical = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpus[0], [logical, logical])
    return {
        "one": lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
        "mirrored": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }


def losses(strategy, jit_compile):
    with strategy.scope():
        task = model(weighted_metrics=["sparse_categorical_accuracy"])
    if strategy.num_replicas_in_sync == 1:
        # Plain Keras, on the whole batch.
        history = task.fit(dataset(), steps_per_epoch=1, epochs=4, verbose=0)
    else:
        history = Replicas(task, strategy, jit_compile).fit(
            dataset(), steps_per_epoch=1, epochs=4, verbose=0
        )
    return {name: list(map(float, each)) for name, each in history.history.items()}


if __name__ == "__main__":
    if sys.argv[1] == "workers":
        found = losses(tf.distribute.MultiWorkerMirroredStrategy(), False)
    else:
        known = strategies()
        found = {name: losses(known[name](), True) for name in sys.argv[1:]}
    print(json.dumps(found))
