"""Export a saved model on TensorFlow, for a process on another backend.

python -m bert4keras3.export MODEL.keras SETTINGS.json FOLDER
"""

import contextlib
import importlib
import json
import sys
from pathlib import Path

import keras

from bert4keras3.export.saved_model import write_saved_model
from bert4keras3.text.tokenizer import Tokenizer


def main(arguments: list[str]) -> None:
    saved, given, folder = map(Path, arguments)
    settings = json.loads(given.read_text(encoding="utf-8"))
    config = settings["tokenizer"]
    tokenizer = None if config is None else Tokenizer(**config)
    # Where the classes of the model are registered.
    for name in settings["modules"]:
        with contextlib.suppress(ImportError):  # Keras says which class it lacks
            importlib.import_module(name)
    model = keras.saving.load_model(saved, compile=False)
    write_saved_model(model, folder, tokenizer, settings["pairs"])


if __name__ == "__main__":
    main(sys.argv[1:])
