"""Time of a task's training step against that of its bare backbone.

Trains every task, and the backbone alone by the mean square of its hidden states, with
the sizes of `gau-alpha-tiny`, the same optimizer, and as many rows of tokens. The steps
run in turn in one process. What a head costs by itself is what it adds to a backbone
of one layer. Prints medians, and two ratios for each task: of its step to the bare
step, and to the bare step plus the head.

    KERAS_BACKEND=jax python benchmarks/task_step.py [--rows 16] [--length 64]
        [--repeats 15] [--tasks text_classifier masked_lm]
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import zoo  # noqa: E402
from bert4keras3 import tasks  # noqa: E402
from bert4keras3.embedding_losses import CoSENTLoss  # noqa: E402
from bert4keras3.models.gau_alpha import GAUAlphaBackbone  # noqa: E402
from bert4keras3.tasks.entity_tags import bio_names  # noqa: E402
from bert4keras3.tasks.task import Task  # noqa: E402
from zoo.presets import PRESETS  # noqa: E402

SIZES = PRESETS["gau-alpha-tiny"].config
WHOLE, ONE_LAYER = SIZES["num_layers"], 1
CHOICES = 4
NAMES = ["a", "b", "c"]
ARGUMENTS = {
    "text_classifier": {"label_names": NAMES},
    "token_classifier": {"label_names": bio_names(NAMES), "decoder": "crf"},
    "entity_recognizer": {"label_names": NAMES},
    "relation_extractor": {"label_names": NAMES},
}


def data(name, texts):
    """What `fit` takes for this task, in as many rows as there are texts."""
    singly = {
        "text_classifier": [NAMES[i % 3] for i in range(len(texts))],
        "token_classifier": [[(3, 6, "a"), (9, 10, "c")]] * len(texts),
        "entity_recognizer": [[(3, 6, "a"), (9, 10, "c")]] * len(texts),
        "relation_extractor": [[((3, 6), "a", (9, 10))]] * len(texts),
        "masked_lm": None,
    }
    if name in singly:
        return texts, singly[name]
    if name == "multiple_choice":
        few = texts[: len(texts) // CHOICES]
        return (few, [texts[:CHOICES]] * len(few)), [1] * len(few)
    if name == "text_embedder":
        return (texts[::2], texts[1::2]), [i % 2 for i in range(len(texts) // 2)]
    answers = [{"text": text[2:4], "answer_start": 2} for text in texts]
    return (["什么"] * len(texts), [text[: len(text) // 2] for text in texts]), answers


def backbone(num_layers):
    return GAUAlphaBackbone(**{**SIZES, "num_layers": num_layers})


def compiled(model, loss):
    arguments = {"loss": loss, "jit_compile": keras.backend.backend() != "torch"}
    if isinstance(model, Task):
        arguments["metrics"] = None
    model.compile(keras.optimizers.Adam(1e-4), **arguments)
    return model


def bare_step(num_layers, rows, length):
    model = compiled(backbone(num_layers), "mse")
    ids = np.random.default_rng(0).integers(5, 999, (rows, length)).astype("int32")
    x = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
    }
    y = np.zeros((rows, length, model.hidden_dim), "float32")
    return lambda: model.train_on_batch(x, y)


def task_step(name, num_layers, tokenizer, texts, length):
    task_class = tasks.get(name)
    preprocessor = task_class.preprocessor_class(tokenizer, length)
    body = backbone(num_layers)
    task = task_class(body, preprocessor, **ARGUMENTS.get(name, {}))
    compiled(task, CoSENTLoss() if name == "text_embedder" else "auto")
    batch = task._text_batches(*data(name, texts), len(texts))[0]
    return lambda: task.train_on_batch(*batch)


def in_turn(steps, repeats):
    """Seconds of every step, one after the other, again and again."""
    for step in steps.values():
        for _ in range(3):
            step()
    seconds = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()  # gives the loss as a number, so it waits for the end
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(taken) for name, taken in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--tasks", nargs="+", default=sorted({*tasks.TASKS} - {"next_sentence"})
    )
    options = parser.parse_args()
    tokenizer = zoo.load("gau-alpha-tiny", task="masked_lm").tokenizer
    characters = [each for each in tokenizer.vocabulary if "一" <= each <= "龥"]
    rng = np.random.default_rng(0)
    texts = [
        "".join(rng.choice(characters, options.length)) for _ in range(options.rows)
    ]
    print(
        f"{keras.backend.backend()}, {options.rows} rows of {options.length} tokens, "
        f"{options.repeats} steps each in turn, medians"
    )
    print(f"{'task':20}  bare ms  task ms  head ms  task/bare  task/(bare+head)")
    bare_steps = {
        ("bare", layers): bare_step(layers, options.rows, options.length)
        for layers in (WHOLE, ONE_LAYER)
    }
    for name in options.tasks:
        task_steps = {
            ("task", layers): task_step(name, layers, tokenizer, texts, options.length)
            for layers in (WHOLE, ONE_LAYER)
        }
        seconds = in_turn({**bare_steps, **task_steps}, options.repeats)
        bare, task = seconds["bare", WHOLE], seconds["task", WHOLE]
        head = statistics.median(
            seconds["task", ONE_LAYER] - seconds["bare", ONE_LAYER]
        )
        print(
            f"{name:20} {1e3 * np.median(bare):8.1f} {1e3 * np.median(task):8.1f} "
            f"{1e3 * head:8.1f} {np.median(task / bare):10.2f} "
            f"{np.median(task / (bare + max(head, 0.0))):17.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
