"""Our masked language model as a KerasHub task."""

import keras
import keras_hub

from bert4keras3.hub.backbone import Backbone
from bert4keras3.hub.preprocessors import MaskedLMPreprocessor
from bert4keras3.hub.task_parts import (
    head_arguments,
    quantize_backbone,
    with_preprocessor,
)
from bert4keras3.tasks import masked_lm as ours


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class MaskedLM(keras_hub.models.MaskedLM):
    """`bert4keras3.tasks.masked_lm` as a `keras_hub.models.MaskedLM`.

    Inputs are the backbone's and `mask_positions`, `(B, P)`.

    Args:
        backbone: a `bert4keras3.hub.Backbone`.
        preprocessor: a `MaskedLMPreprocessor` of the hub, or `None`.
        task: a task of ours to take the head from, or `None` for a new head.
        name: name of the Keras model.
        compile: compile with the defaults of KerasHub.

    Returns:
        float32 logits `(B, P, vocabulary_size)`.

    Example:

    >>> from bert4keras3.models import GAUAlphaBackbone
    >>> model = MaskedLM(Backbone(GAUAlphaBackbone(50, 1, 16, 32, key_dim=8)))
    >>> ids = np.array([[2, 9, 9, 3]])
    >>> tuple(model({"token_ids": ids, "mask_positions": np.array([[1]])}).shape)
    (1, 1, 50)
    """

    backbone_cls = Backbone
    preprocessor_cls = MaskedLMPreprocessor

    def __init__(self, backbone, preprocessor=None, task=None, name=None, compile=True):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.task = task or ours.MaskedLM(backbone.model)
        inputs = {
            **backbone.input,
            "mask_positions": keras.Input(
                (None,), dtype="int32", name="mask_positions"
            ),
        }
        super().__init__(
            inputs=inputs, outputs=self.task(inputs), name=name, compile=compile
        )

    @classmethod
    def wrap(cls, task, **kwargs):
        """A KerasHub task over the layers of a task of ours, its head included."""
        made_of = task.preprocessor
        preprocessor = made_of and MaskedLMPreprocessor.wrap(made_of)
        return cls(Backbone(task.backbone), preprocessor, task=task, **kwargs)

    def unwrap(self):
        """The task of ours, with the same layers: it has `fill`, for example."""
        return with_preprocessor(self.task, self.preprocessor)

    def __call__(self, inputs, *args, **kwargs):
        inputs = dict(inputs)
        if "mask_positions" not in inputs:
            raise ValueError(
                "A masked LM of KerasHub also takes 'mask_positions', the places to "
                "predict, (B, P). `unwrap()` gives a task that predicts every place."
            )
        positions = inputs.pop("mask_positions")
        inputs = self.backbone.model.complete_inputs(inputs)
        inputs["mask_positions"] = keras.ops.convert_to_tensor(positions)
        return super().__call__(inputs, *args, **kwargs)

    def quantize(self, mode=None, **kwargs):
        """`keras.Model.quantize` of the backbone; the head stays as it is."""
        quantize_backbone(self, mode, **kwargs)

    def get_config(self):
        return {**super().get_config(), **head_arguments(self.task)}
