"""A small character language model over Chinese text, trained short and tested long.

What the claims about length share: the text, the model, its training and its score.
"""

import collections
import functools

import keras
import numpy as np
import report

from bert4keras3.training.documents import read_documents

SMOKE_TEXT = "今天天气很好，我们去公园散步。明天下雨，大家在家里看书。" * 200
UNKNOWN = 0
TRAIN_LENGTH, LENGTHS = 64, (64, 80, 96, 128, 256, 512)
# Only the last targets of a test row count, and they are the same for every length:
# a longer row gives more to look at and nothing else to predict.
SCORED, TEST_ROWS = 16, 128


class ChineseText:
    """Characters as ids, the most frequent ones first; the end is held out.

    Args:
        paths: text files or folders, see `read_documents`; `None` for a few sentences.
        vocabulary_size: ids, with one for all rare characters.
    """

    def __init__(self, paths=None, vocabulary_size=1000, held_out=0.1):
        text = SMOKE_TEXT
        if paths:
            text = "\n".join(doc for path in paths for doc in read_documents(path))
        counts = collections.Counter(text).most_common(vocabulary_size - 1)
        ids = {character: at for at, (character, _) in enumerate(counts, UNKNOWN + 1)}
        tokens = np.array([ids.get(character, UNKNOWN) for character in text], "int32")
        cut = int(len(tokens) * (1 - held_out))
        self.train, self.test = tokens[:cut], tokens[cut:]
        self.vocabulary_size = len(ids) + 1

    def training_rows(self, batch_size, length, rng):
        """`(batch_size, length + 1)`: text, and in every second row a repetition.

        A repetition starts again after a random number of characters. Small models
        learn no copying from a few minutes of text alone, and what they copy tells
        whether they still see far.
        """
        starts = rng.integers(len(self.train) - length, size=batch_size)
        rows = self.train[starts[:, None] + np.arange(length + 1)]
        for row in rows[::2]:
            period = rng.integers(length // 8, length // 2 + 1)
            row[:] = np.resize(row[:period], length + 1)
        return rows

    def test_rows(self, length, repeated, count=TEST_ROWS):
        """`(count, length + 1)` that end at the same places, whatever the length.

        Args:
            repeated: say the last half of the row twice.
        """
        ends = np.linspace(max(LENGTHS) + 1, len(self.test), count).astype(int)
        used = length // 2 if repeated else length + 1
        rows = self.test[ends[:, None] + np.arange(-used, 0)]
        return np.concatenate([rows[:, -1:], rows, rows], 1) if repeated else rows


def build(backbone, vocabulary_size, **arguments):
    """Logits of the next character; `arguments` are those of the backbone class."""
    backbone = backbone(
        vocabulary_size,
        dropout=0,
        attention_dropout=0,
        **{"attention": "causal", **arguments},
    )
    token_ids = keras.Input((None,), dtype="int32")
    logits = keras.layers.Dense(vocabulary_size)(backbone({"token_ids": token_ids}))
    model = keras.Model(token_ids, logits)
    model.compile(
        keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() != "torch",
    )
    return model


def train(model, steps, batch, peak=3e-3):
    """One cycle of the learning rate: up over a tenth of the steps, down to zero.

    Args:
        batch: `batch(rng)` gives the arguments of `train_on_batch`.
    """
    rng = np.random.default_rng(int(np.random.randint(2**31)))
    for step in range(steps):
        share = (step + 1) / steps
        model.optimizer.learning_rate = peak * min(10 * share, (1 - share) / 0.9)
        model.train_on_batch(*batch(rng))


def score(model, text, lengths, repeated=False, batch_size=16):
    """Accuracy and loss in nats of the last targets, `(2, lengths)`."""
    figures = []
    for length in lengths:
        rows = text.test_rows(length, repeated)
        right, nats = [], []
        for at in range(0, len(rows), batch_size):
            batch = rows[at : at + batch_size]
            logits = model.predict_on_batch(batch[:, :-1])[:, -SCORED:]
            logits = logits.astype("float64")
            targets = batch[:, -SCORED:]
            peak = logits.max(-1, keepdims=True)
            total = peak[..., 0] + np.log(np.exp(logits - peak).sum(-1))
            chosen = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
            right.append(logits.argmax(-1) == targets)
            nats.append(total - chosen)
        figures.append([np.mean(right), np.mean(nats)])
    return np.array(figures).T


def measure(model, text, lengths):
    """Accuracy and loss, on text and on its repetition, `(2, 2, lengths)`."""
    return [score(model, text, lengths, repeated) for repeated in (False, True)]


def compare(
    options, name, text, backbone, sizes, systems, at_prediction, steps, lengths
):
    """Train each system, test it as it is and as others, print and save the figures.

    Args:
        options: see `report.parse_arguments`.
        name: of the plots.
        backbone, sizes: class, and the arguments that all systems share.
        systems: name -> further arguments.
        at_prediction: name of a system -> name -> the arguments that change then.
    """

    def new(**arguments):
        return build(backbone, text.vocabulary_size, **sizes, **arguments)

    def batch(rng, batch_size=16):
        rows = text.training_rows(batch_size, TRAIN_LENGTH, rng)
        return rows[:, :-1], rows[:, 1:]

    def run(system, variants):
        model = new(**system)
        train(model, steps, batch)
        figures = [measure(model, text, lengths)]
        for changes in variants:
            other = new(**{**system, **changes})
            other.set_weights(model.get_weights())
            figures.append(measure(other, text, lengths))
        return figures

    results = {}
    for trained, system in systems.items():
        variants = at_prediction.get(trained, {})
        figures = report.by_seed(
            options, functools.partial(run, system, tuple(variants.values()))
        )
        for at, tested in enumerate([trained, *variants]):
            results[tested] = figures[:, at]
        print(f"done: {trained}", flush=True)

    tables = (
        ("text", "loss", 0, 1),
        ("text", "accuracy", 0, 0),
        ("repetition", "accuracy", 1, 0),
    )
    for kind, figure, repeated, at in tables:
        rows = {key: value[:, repeated, at] for key, value in results.items()}
        print(f"\n{kind}, {figure}\n")
        report.print_table(["system", *lengths], rows)
        report.save(
            options,
            f"{name}_{kind}_{figure}",
            f"length of the row (trained at {TRAIN_LENGTH})",
            f"{figure}, {kind}",
            lengths,
            rows,
            log_x=True,
        )
