"""Mean of token embeddings, dense layer, softmax: in Keras, and by hand in NumPy."""

import keras
import numpy as np

from bert4keras3.training.extra_loss import ExtraLosses, TrainingStep

VOCABULARY, DIM, CLASSES = 7, 3, 4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable(package="tests")
class Classifier(ExtraLosses, keras.Sequential):
    pass


def make(*middle, **compile_arguments):
    """A classifier with random weights; `middle` goes before the dense layer."""
    table = keras.layers.Embedding(VOCABULARY, DIM, name="token_embedding")
    pooling = keras.layers.GlobalAveragePooling1D()
    dense = keras.layers.Dense(CLASSES, name="dense")
    model = Classifier([keras.Input((5,)), table, pooling, *middle, dense])
    rng = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    arguments = {"optimizer": keras.optimizers.SGD(1.0), "loss": LOSS}
    model.compile(**{**arguments, **compile_arguments})
    return model


def batch(size=6):
    """Token ids with repetitions, and labels."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, VOCABULARY - 1, (size, 5)).astype("int32")
    return x, rng.integers(0, CLASSES, size).astype("int32")


def weights(model):
    """Table, kernel and bias in float64."""
    names = "token_embedding/embeddings", "dense/kernel", "dense/bias"
    paths = {v.path: v for v in model.weights}
    found = [paths[path] for name in names for path in paths if path.endswith(name)]
    return [keras.ops.convert_to_numpy(v).astype("float64") for v in found]


def training_step(model, x, y, sample_weight=None):
    """What a term is called with."""
    x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    y_pred = model(x, training=True)
    loss = model.ordinary_loss(x, y, y_pred, sample_weight)
    return TrainingStep(model, x, y, y_pred, sample_weight, loss)


def log_softmax(scores):
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def log_probabilities(parameters, x):
    table, kernel, bias = parameters
    return log_softmax(table[x].mean(1) @ kernel + bias)


def loss(parameters, x, y):
    return -log_probabilities(parameters, x)[np.arange(len(y)), y].mean()


def divergence(p, q):
    """Mean of KL(p, q), from log probabilities."""
    return (np.exp(p) * (p - q)).sum(-1).mean()


def gradients(parameters, x, target):
    """Of the mean cross-entropy with the probabilities `target`."""
    table, kernel, _ = parameters
    error = np.exp(log_probabilities(parameters, x)) - target
    error /= len(x)
    d_table = np.zeros_like(table)
    for row, d_hidden in zip(x, error @ kernel.T, strict=True):
        for token in row:
            d_table[token] += d_hidden / len(row)
    return [d_table, table[x].mean(1).T @ error, error.sum(0)]


def loss_gradients(parameters, x, y):
    return gradients(parameters, x, np.eye(CLASSES)[y])


def moved(parameters, delta):
    return [parameters[0] + delta, *parameters[1:]]


def unit(tensor):
    return tensor / np.sqrt((tensor**2).sum())
