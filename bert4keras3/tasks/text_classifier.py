"""One label for a text or for a pair of texts."""

import keras
from keras import ops

from bert4keras3.layers import pooling as poolings
from bert4keras3.tasks.label_names import check_label_names, label_ids, name_of
from bert4keras3.tasks.task import Task, softmax
from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.text.inputs import as_batch


@keras.saving.register_keras_serializable(package="bert4keras3")
class TextClassifier(Task):
    """Classes of texts, from one vector of the hidden states.

    `logits = W dropout(pool(x)) + b`. With raw text, labels are numbers or, with
    `label_names`, names.

    Args:
        backbone: a `Backbone`.
        preprocessor: a `TextPreprocessor`, or `None`.
        num_classes: number `C` of classes; by default that of `label_names`.
        label_names: names of the classes, in their order; `None` for numbers.
        pooling: name, config or instance, see `layers.pooling`: `"first"` takes
            `[CLS]`, as the authors of the models did, `"mean"`, `"max"`,
            `"attention"`.
        head_dropout: rate before the last layer.

    Returns:
        float32 logits `(B, C)`.

    Raises:
        ValueError: neither classes nor names, or both in different numbers.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> backbone = GAUAlphaBackbone(50, 1, 16, 32, key_dim=8)
    >>> model = TextClassifier(backbone, label_names=["bad", "good"])
    >>> tuple(model({"token_ids": np.array([[2, 9, 9, 3]])}).shape)
    (1, 2)
    """

    preprocessor_class = TextPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        num_classes=None,
        label_names=None,
        pooling="first",
        head_dropout=0.0,
        **kwargs,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.label_names, self.num_classes = check_label_names(label_names, num_classes)
        policy = backbone.token_embedding.dtype_policy
        self.pooling = poolings.get(pooling, dtype=policy, name="pooling")
        self.dropout_layer = keras.layers.Dropout(head_dropout, dtype=policy)
        self.head = keras.layers.Dense(
            self.num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=policy,
            name="head",
        )
        self.pooling.build((None, None, backbone.hidden_dim))
        self.head.build((None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        inputs = self.backbone.complete_inputs(inputs)
        x = self.hidden_states(inputs, training=training)
        x = self.pooling(x, inputs["padding_mask"])
        x = self.dropout_layer(x, training=training)
        return ops.cast(self.head(x), "float32")

    def compute_output_spec(self, inputs, training=None):
        batch_size = inputs["token_ids"].shape[0]
        return keras.KerasTensor((batch_size, self.num_classes), dtype="float32")

    def default_metrics(self):
        return ["sparse_categorical_accuracy"]

    def prepare_labels(self, labels, texts):
        return label_ids(labels, self.label_names, self.num_classes)

    def classify(self, texts, pairs=None, top_k=1, batch_size=32):
        """The likeliest classes of a text or of several.

        Args:
            texts: a string or a list of strings.
            pairs: second texts, of the same form.
            top_k: how many classes per text.
            batch_size: texts per batch.

        Returns:
            For a string a list of `(class, probability)`, best first; for a list, a
            list of these. A class is a name, or a number without `label_names`.

        Raises:
            ValueError: the task has no preprocessor.
        """
        single = isinstance(texts, str)
        texts = as_batch(texts, "texts")
        pairs = None if pairs is None else as_batch(pairs, "pairs")
        found = []
        for logits in self.outputs_of(texts, pairs, batch_size):
            for row in softmax(logits):
                best = row.argsort()[::-1][:top_k]
                found.append(
                    [(name_of(int(k), self.label_names), float(row[k])) for k in best]
                )
        return found[0] if single else found

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "label_names": self.label_names,
            "pooling": poolings.serialize(self.pooling),
            "head_dropout": self.dropout_layer.rate,
        }
