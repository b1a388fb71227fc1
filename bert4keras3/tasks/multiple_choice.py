"""The right one of several answers to a text."""

import keras
from keras import ops

from bert4keras3.layers import pooling as poolings
from bert4keras3.ops import MASKED_LOGIT
from bert4keras3.tasks.multiple_choice_preprocessor import MultipleChoicePreprocessor
from bert4keras3.tasks.task import Task, softmax
from bert4keras3.text.inputs import as_batch


@keras.saving.register_keras_serializable(package="bert4keras3")
class MultipleChoice(Task):
    """One score per choice, compared within each text.

    `logit_c = w pool(x_c) + b`, where `x_c` are the hidden states of the text together
    with choice `c`; softmax over the choices. A choice whose row is all padding takes
    no part.

    Args:
        backbone: a `Backbone`.
        preprocessor: a `MultipleChoicePreprocessor`, or `None`.
        pooling: name, config or instance, see `layers.pooling`.
        head_dropout: rate before the last layer.

    Call arguments:
        inputs: dict of arrays `(B, C, T)`.

    Returns:
        float32 logits `(B, C)`; -1e9 for choices that are not there.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> model = MultipleChoice(GAUAlphaBackbone(50, 1, 16, 32, key_dim=8))
    >>> ids = np.array([[[2, 9, 3], [2, 8, 3], [2, 7, 3]]])
    >>> tuple(model({"token_ids": ids}).shape)
    (1, 3)
    """

    preprocessor_class = MultipleChoicePreprocessor

    def __init__(
        self, backbone, preprocessor=None, pooling="first", head_dropout=0.0, **kwargs
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        policy = backbone.token_embedding.dtype_policy
        self.pooling = poolings.get(pooling, dtype=policy, name="pooling")
        self.dropout_layer = keras.layers.Dropout(head_dropout, dtype=policy)
        self.head = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=policy,
            name="head",
        )
        self.pooling.build((None, None, backbone.hidden_dim))
        self.head.build((None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        inputs = self.backbone.complete_inputs(inputs)
        _, choices, length = ops.shape(inputs["token_ids"])
        rows = {
            name: ops.reshape(array, (-1, length)) for name, array in inputs.items()
        }
        x = self.hidden_states(rows, training=training)
        x = self.pooling(x, rows["padding_mask"])
        x = self.head(self.dropout_layer(x, training=training))
        logits = ops.reshape(ops.cast(x, "float32"), (-1, choices))
        there = ops.max(inputs["padding_mask"], axis=-1) > 0
        return ops.where(there, logits, float(MASKED_LOGIT))

    def default_metrics(self):
        return ["sparse_categorical_accuracy"]

    def choose(self, texts, choices, batch_size=8):
        """The likeliest choice for a text or for several.

        Args:
            texts: a string or a list of strings.
            choices: a list of strings, or one such list per text.
            batch_size: texts per batch.

        Returns:
            `(choice, probability)`, or a list of these.

        Raises:
            ValueError: no preprocessor, or a text with fewer than two choices.
        """
        single = isinstance(texts, str)
        if single:
            choices = [choices]
        texts = as_batch(texts, "texts")
        rows = [
            row
            for logits in self.outputs_of(texts, choices, batch_size)
            for row in softmax(logits)
        ]
        found = [
            (each[int(row.argmax())], float(row.max()))
            for row, each in zip(rows, choices, strict=True)
        ]
        return found[0] if single else found

    def get_config(self):
        return {
            **super().get_config(),
            "pooling": poolings.serialize(self.pooling),
            "head_dropout": self.dropout_layer.rate,
        }
