"""Our text classifier as a KerasHub task."""

import keras
import keras_hub

from bert4keras3.hub.backbone import Backbone
from bert4keras3.hub.preprocessors import TextClassifierPreprocessor
from bert4keras3.hub.task_parts import (
    head_arguments,
    quantize_backbone,
    with_preprocessor,
)
from bert4keras3.tasks import text_classifier as ours


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class TextClassifier(keras_hub.models.TextClassifier):
    """`bert4keras3.tasks.text_classifier` as a `keras_hub.models.TextClassifier`.

    `logits = W dropout(pool(x)) + b`.

    Args:
        backbone: a `bert4keras3.hub.Backbone`.
        preprocessor: a `TextClassifierPreprocessor` of the hub, or `None`.
        num_classes, label_names, pooling, head_dropout: see the task of ours.
        task: a task of ours to take the head from, instead of the arguments before.
        name: name of the Keras model.
        compile: compile with the defaults of KerasHub.

    Returns:
        float32 logits `(B, C)`.

    Raises:
        ValueError: neither classes nor names.

    Example:

    >>> from bert4keras3.models import GAUAlphaBackbone
    >>> backbone = Backbone(GAUAlphaBackbone(50, 1, 16, 32, key_dim=8))
    >>> model = TextClassifier(backbone, num_classes=2)
    >>> tuple(model({"token_ids": np.array([[2, 9, 9, 3]])}).shape)
    (1, 2)
    """

    backbone_cls = Backbone
    preprocessor_cls = TextClassifierPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        num_classes=None,
        label_names=None,
        pooling="first",
        head_dropout=0.0,
        task=None,
        name=None,
        compile=True,
    ):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.task = task or ours.TextClassifier(
            backbone.model,
            num_classes=num_classes,
            label_names=label_names,
            pooling=pooling,
            head_dropout=head_dropout,
        )
        inputs = backbone.input
        super().__init__(
            inputs=inputs, outputs=self.task(inputs), name=name, compile=compile
        )

    @classmethod
    def wrap(cls, task, **kwargs):
        """A KerasHub task over the layers of a task of ours, its head included."""
        made_of = task.preprocessor
        preprocessor = made_of and TextClassifierPreprocessor.wrap(made_of)
        return cls(Backbone(task.backbone), preprocessor, task=task, **kwargs)

    def unwrap(self):
        """The task of ours, with the same layers: it has `classify`, for example."""
        return with_preprocessor(self.task, self.preprocessor)

    def __call__(self, inputs, *args, **kwargs):
        inputs = self.backbone.model.complete_inputs(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def quantize(self, mode=None, **kwargs):
        """`keras.Model.quantize` of the backbone; the head stays as it is."""
        quantize_backbone(self, mode, **kwargs)

    def get_config(self):
        return {**super().get_config(), **head_arguments(self.task)}
