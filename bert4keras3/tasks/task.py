"""Base of the tasks: a backbone, a head, and a preprocessor for raw text."""

import copy

import keras
import numpy as np

from bert4keras3.tasks.text_batches import (
    TextBatches,
    as_stream,
    check_texts,
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

    A subclass builds its head, sets `preprocessor_class` and may override
    `default_loss`, `default_metrics`, `prepare_labels` and, with arguments of its own,
    `get_config`.

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
        return self.required_preprocessor().tokenizer

    def hidden_states(self, inputs, training=None):
        """`(B, T, hidden_dim)` of the backbone, with or without a pooler."""
        outputs = self.backbone(inputs, training=training)
        return outputs["hidden_states"] if isinstance(outputs, dict) else outputs

    def compile(
        self,
        optimizer="auto",
        loss="auto",
        loss_weights=None,
        metrics="auto",
        **kwargs,
    ):
        """`keras.Model.compile` that knows what fits the task.

        Args:
            optimizer: `"auto"` for Adam at a learning rate of 2e-5.
            loss: `"auto"` for the loss of the task.
            loss_weights: as in Keras.
            metrics: `"auto"` for the metrics of the task, which are left out when
                another loss was chosen.
            **kwargs: as in Keras, and `extra_losses`, see `ExtraLosses`.
        """
        self._compile_arguments = {
            "optimizer": optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            **kwargs,
        }
        if isinstance(metrics, str) and metrics == "auto":
            chosen = isinstance(loss, str) and loss == "auto"
            metrics = self.default_metrics() if chosen else None
        if isinstance(loss, str) and loss == "auto":
            loss = self.default_loss()
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = keras.optimizers.Adam(2e-5)
            self._compile_arguments["optimizer"] = optimizer
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            **kwargs,
        )

    def default_loss(self):
        """The loss that `compile` takes; here cross-entropy of integer labels."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self):
        """The metrics that `compile` takes with the default loss."""
        return None

    def prepare_labels(self, labels, texts):
        """Labels as the preprocessor takes them, from those of a user, checked.

        Args:
            labels: what was passed to `fit` or `evaluate` beside raw texts.
            texts: list of as many texts.

        Raises:
            ValueError: a label that the task does not know.
        """
        return labels

    def get_compile_config(self):
        if not self.compiled:
            return {}
        # An optimizer that has not begun has no variables in the file to be loaded.
        began = bool(getattr(self.optimizer, "built", False))
        return keras.saving.serialize_keras_object(
            {"arguments": self._compile_arguments, "optimizer_began": began}
        )

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config["arguments"])
        if config["optimizer_began"]:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, batch_size=None, validation_data=None, **kwargs):
        """`keras.Model.fit` which also takes raw text."""
        self.backbone.check_batch(x)
        check_texts(x)
        texts_per_batch = batch_size
        if is_text(x):
            shuffle = kwargs.pop("shuffle", True)
            x = self._stream(x, y, batch_size, shuffle=shuffle)
            y = batch_size = None
            # It shuffles itself, and Keras warns about its own default otherwise.
            kwargs["shuffle"] = False
        if is_text_dataset(x):
            x = self._encoded(x)
            kwargs["shuffle"] = False
        validation_data = self._encoded(validation_data)
        if isinstance(validation_data, tuple) and is_text(validation_data[0]):
            validation_data = self._stream(*validation_data, texts_per_batch)
        elif is_text(validation_data):
            validation_data = self._stream(validation_data, None, texts_per_batch)
        return super().fit(
            x, y, batch_size=batch_size, validation_data=validation_data, **kwargs
        )

    def evaluate(self, x=None, y=None, batch_size=None, **kwargs):
        """`keras.Model.evaluate` which also takes raw text."""
        self.backbone.check_batch(x)
        check_texts(x)
        if is_text(x):
            x, y, batch_size = self._stream(x, y, batch_size), None, None
        x = self._encoded(x)
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def predict(self, x, batch_size=None, **kwargs):
        """`keras.Model.predict` which also takes raw text."""
        self.backbone.check_batch(x)
        check_texts(x)
        if is_text(x):
            x = self._stream(x, None, batch_size, inputs_only=True)
            batch_size = None
        x = self._encoded(x, inputs_only=True)
        return super().predict(x, batch_size=batch_size, **kwargs)

    def _stream(self, x, y, batch_size, **kwargs):
        batches = self._text_batches(x, y, batch_size, **kwargs)
        return as_stream(batches, self.preprocessor.sequence_length)

    def _text_batches(self, x, y, batch_size, **kwargs):
        preprocessor = self.required_preprocessor()
        batches = TextBatches(preprocessor, x, y, batch_size or 32, **kwargs)
        if y is not None:
            batches.labels = self.prepare_labels(y, batches.texts)
        return batches

    def batches_of_one_length(self, texts, labels):
        """Batches of labelled texts, all padded to the longest length.

        Args:
            texts, labels: as for `fit`.

        Raises:
            ValueError: the preprocessor has no `sequence_length`.
        """
        lengths = self.required_preprocessor().sequence_length
        if lengths is None:
            raise ValueError(
                f"The preprocessor of this {type(self).__name__} pads to the longest "
                "text of a batch. Load the task with a `sequence_length`, for example "
                "128, so that every batch has the same shape."
            )
        batches = self._text_batches(texts, labels, None)
        if hasattr(batches, "preprocessor"):
            batches.preprocessor = copy.copy(batches.preprocessor)
            batches.preprocessor.sequence_length = int(np.max(lengths))
        return batches

    def outputs_of(self, texts, pairs=None, batch_size=32):
        """Outputs batch by batch, for answers in words.

        Args:
            texts: list of strings.
            pairs: second texts, or `None`.
            batch_size: texts per batch.

        Yields:
            Outputs of one batch, as NumPy arrays. Batches may differ in length.
        """
        x = texts if pairs is None else (texts, pairs)
        batches = self._text_batches(x, None, batch_size, inputs_only=True)
        for index in range(len(batches)):
            outputs = self.predict_on_batch(batches[index])
            yield keras.tree.map_structure(to_numpy, outputs)

    def _encoded(self, x, inputs_only=False):
        if not is_text_dataset(x):
            return x
        return encode_dataset(x, self.required_preprocessor(), inputs_only)

    def export(
        self, filepath, format="tf_saved_model", pairs=False, warm_up=(), **kwargs
    ):
        """Write the task for inference by other programs.

        As a SavedModel it takes raw text; see `export.saved_model.export_saved_model`.

        Args:
            filepath: where it goes; for TF Serving with a version, `"serving/tnews/1"`.
            format: `"tf_saved_model"`, or another of `keras.Model.export`, which takes
                token ids.
            pairs: whether a classifier takes two texts.
            warm_up: texts that TF Serving shall try first.
            **kwargs: of `keras.Model.export`, for the other formats.
        """
        if format != "tf_saved_model":
            return super().export(filepath, format=format, **kwargs)
        from bert4keras3.export.saved_model import export_saved_model

        export_saved_model(self, filepath, pairs=pairs, warm_up=warm_up)

    def required_preprocessor(self):
        """The preprocessor, or a `ValueError` that says how to get one."""
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
            if isinstance(config[name], dict):  # and not one that is shared
                config[name] = keras.saving.deserialize_keras_object(
                    config[name], custom_objects=custom_objects
                )
        return cls(**config)


def to_numpy(tensor):
    """A NumPy array of a tensor of any backend."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def softmax(logits, axis=-1):
    """Softmax of a NumPy array, in float64."""
    logits = np.asarray(logits, "float64")
    powers = np.exp(logits - logits.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)
