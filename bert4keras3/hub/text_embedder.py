"""Our text embedder as a KerasHub task."""

import keras
import keras_hub

from bert4keras3.hub.backbone import Backbone
from bert4keras3.hub.preprocessors import TextEmbedderPreprocessor
from bert4keras3.hub.task_parts import (
    head_arguments,
    quantize_backbone,
    with_preprocessor,
)
from bert4keras3.tasks import text_embedder as ours


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class TextEmbedder(keras_hub.models.TextEmbedder):
    """`bert4keras3.tasks.text_embedder` as a `keras_hub.models.TextEmbedder`.

    `v = y / |y|` with `y` the output of the task of ours; its `encode_text` gives what
    `embed` gives there.

    Args:
        backbone: a `bert4keras3.hub.Backbone`.
        preprocessor: a `TextEmbedderPreprocessor` of the hub, or `None`.
        pooling, whitening_dim: see the task of ours.
        normalize: divide each vector by its length.
        task: a task of ours to take pooling and whitening from, instead of arguments.
        name: name of the Keras model.
        compile: compile with the defaults of KerasHub.

    Returns:
        float32 vectors `(B, hidden_dim)` or `(B, whitening_dim)`.

    Example:

    >>> from bert4keras3.models import GAUAlphaBackbone
    >>> model = TextEmbedder(Backbone(GAUAlphaBackbone(50, 1, 16, 32, key_dim=8)))
    >>> vectors = model({"token_ids": np.array([[2, 9, 9, 3]])})
    >>> bool(np.allclose(np.linalg.norm(vectors), 1.0))
    True
    """

    backbone_cls = Backbone
    preprocessor_cls = TextEmbedderPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        pooling="mean",
        whitening_dim=None,
        normalize=True,
        task=None,
        name=None,
        compile=True,
    ):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.normalize = normalize
        self.task = task or ours.TextEmbedder(
            backbone.model, pooling=pooling, whitening_dim=whitening_dim
        )
        inputs = backbone.input
        outputs = self.task(inputs)
        if normalize:
            outputs = keras.layers.UnitNormalization(
                dtype="float32", name="unit_normalization"
            )(outputs)
        super().__init__(inputs=inputs, outputs=outputs, name=name, compile=compile)

    @classmethod
    def wrap(cls, task, **kwargs):
        """A KerasHub task over the layers of a task of ours, whitening included."""
        made_of = task.preprocessor
        preprocessor = made_of and TextEmbedderPreprocessor.wrap(made_of)
        return cls(Backbone(task.backbone), preprocessor, task=task, **kwargs)

    def unwrap(self):
        """The task of ours, with the same layers: it has `embed`, for example."""
        return with_preprocessor(self.task, self.preprocessor)

    def __call__(self, inputs, *args, **kwargs):
        inputs = self.backbone.model.complete_inputs(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def quantize(self, mode=None, **kwargs):
        """`keras.Model.quantize` of the backbone; what follows stays as it is."""
        quantize_backbone(self, mode, **kwargs)

    def get_config(self):
        config = {**super().get_config(), **head_arguments(self.task)}
        return {**config, "normalize": self.normalize}
