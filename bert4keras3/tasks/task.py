"""Base of the tasks: a backbone, a head, and a preprocessor for raw text."""

import keras
import numpy as np

from bert4keras3.tasks.text_batches import (
    TextBatches,
    encode_dataset,
    is_text,
    is_text_dataset,
)
from bert4keras3.training.extra_loss import ExtraLosses


class Task(ExtraLosses, keras.Model):
    """A backbone with a head, which takes raw text when it has a preprocessor.

    `fit`, `evaluate` and `predict` accept prepared arrays as any Keras model does, and
    besides: a string, a list or array of strings, a pair of such lists, or a batched
    `tf.data.Dataset` of strings. Text is encoded batch by batch, so random masking
    differs from epoch to epoch. `compile` takes terms of the training loss besides, see
    `ExtraLosses`.

    Args:
        backbone: a `Backbone`.
        preprocessor: turns texts into model inputs; `None` for a task that takes
            prepared token ids only.
    """

    # Class that makes this task's inputs from text; built with a tokenizer.
    preprocessor_class = None
    # Whether pretraining trained this head, so that a release must hold its weights.
    has_released_head = False

    def __init__(self, backbone, preprocessor=None, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor

    def __call__(self, inputs, *args, **kwargs):
        self.backbone.check_batch(inputs)
        return super().__call__(inputs, *args, **kwargs)

    @property
    def tokenizer(self):
        return self._require_preprocessor().tokenizer

    def hidden_states(self, inputs, training=None):
        """`(B, T, hidden_dim)` of the backbone, with or without a pooler."""
        outputs = self.backbone(inputs, training=training)
        return outputs["hidden_states"] if isinstance(outputs, dict) else outputs

    def fit(self, x=None, y=None, batch_size=None, validation_data=None, **kwargs):
        """`keras.Model.fit` which also takes raw text."""
        self.backbone.check_batch(x)
        if is_text(x):
            shuffle = kwargs.pop("shuffle", True)
            x, y, batch_size = (
                self._text_batches(x, y, batch_size, shuffle=shuffle),
                None,
                None,
            )
        if is_text_dataset(x):
            # It shuffles itself, and Keras warns about its own default otherwise.
            x = self._encoded(x)
            kwargs["shuffle"] = False
        validation_data = self._encoded(validation_data)
        if isinstance(validation_data, tuple) and is_text(validation_data[0]):
            validation_data = self._text_batches(*validation_data, batch_size)
        elif is_text(validation_data):
            validation_data = self._text_batches(validation_data, None, batch_size)
        return super().fit(
            x, y, batch_size=batch_size, validation_data=validation_data, **kwargs
        )

    def evaluate(self, x=None, y=None, batch_size=None, **kwargs):
        """`keras.Model.evaluate` which also takes raw text."""
        self.backbone.check_batch(x)
        if is_text(x):
            x, y, batch_size = self._text_batches(x, y, batch_size), None, None
        x = self._encoded(x)
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def predict(self, x, batch_size=None, **kwargs):
        """`keras.Model.predict` which also takes raw text."""
        self.backbone.check_batch(x)
        if is_text(x):
            x = self._text_batches(x, None, batch_size, inputs_only=True)
            batch_size = None
        x = self._encoded(x, inputs_only=True)
        return super().predict(x, batch_size=batch_size, **kwargs)

    def _text_batches(self, x, y, batch_size, **kwargs):
        return TextBatches(
            self._require_preprocessor(), x, y, batch_size or 32, **kwargs
        )

    def _encoded(self, x, inputs_only=False):
        if not is_text_dataset(x):
            return x
        return encode_dataset(x, self._require_preprocessor(), inputs_only)

    def _require_preprocessor(self):
        if self.preprocessor is None:
            raise ValueError(
                f"This {type(self).__name__} was built with preprocessor=None, so it "
                "takes prepared token ids. Load it with its preprocessor to give it "
                "text, or encode with a tokenizer first."
            )
        return self.preprocessor

    def get_config(self):
        config = {"name": self.name, "trainable": self.trainable}
        return {
            **config,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "preprocessor": keras.saving.serialize_keras_object(self.preprocessor),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("backbone", "preprocessor"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)


def to_numpy(tensor):
    """A NumPy array of a tensor of any backend."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))
