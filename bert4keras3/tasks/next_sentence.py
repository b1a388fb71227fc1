"""Next-sentence prediction, BERT's second pretraining task."""

import keras
from keras import ops

from bert4keras3.tasks.task import Task


@keras.saving.register_keras_serializable(package="bert4keras3")
class NextSentence(Task):
    """Whether the second text follows the first: two logits on the pooled vector.

    Args:
        backbone: a `Backbone` with a pooler.
        preprocessor: a preprocessor for pairs, or `None`.

    Returns:
        float32 logits `(B, 2)`; class 0 is "follows".

    Raises:
        ValueError: the backbone has no pooler.
    """

    has_released_head = True

    def __init__(self, backbone, preprocessor=None, **kwargs):
        super().__init__(backbone, preprocessor, **kwargs)
        if getattr(backbone, "pooler", None) is None:
            raise ValueError(
                "Next-sentence prediction reads the pooled vector. Build the backbone "
                "with pooler='tanh'."
            )
        self.head = keras.layers.Dense(
            2, dtype=backbone.token_embedding.dtype_policy, name="next_sentence"
        )
        self.head.build((None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        pooled = self.backbone(inputs, training=training)["pooled"]
        return ops.cast(self.head(pooled), "float32")
