"""One vector per text, near to those of texts that mean the same."""

import keras
import numpy as np
from keras import ops

from bert4keras3.layers import pooling as poolings
from bert4keras3.tasks.task import Task, to_numpy
from bert4keras3.tasks.text_embedder_preprocessor import TextEmbedderPreprocessor
from bert4keras3.text.inputs import as_batch


@keras.saving.register_keras_serializable(package="bert4keras3")
class TextEmbedder(Task):
    """The pooled hidden states of a text, whitened if asked for.

    `y = (pool(x) - m) K`, where `m` and `K` come from `fit_whitening` and are left out
    without `whitening_dim`. It is trained on pairs of texts, see
    `TextEmbedderPreprocessor`, by one of the losses of `embedding_losses`.

    Args:
        backbone: a `Backbone`.
        preprocessor: a `TextEmbedderPreprocessor`, or `None`.
        pooling: name, config or instance, see `layers.pooling`.
        whitening_dim: size of the whitened vectors, or `None`.

    Returns:
        float32 vectors `(B, hidden_dim)` or `(B, whitening_dim)`.

    Raises:
        ValueError: more dimensions than the hidden states have.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> backbone = GAUAlphaBackbone(50, 1, 16, 32, key_dim=8)
    >>> model = TextEmbedder(backbone, whitening_dim=4)
    >>> tuple(model({"token_ids": np.array([[2, 9, 9, 3]])}).shape)
    (1, 4)
    """

    preprocessor_class = TextEmbedderPreprocessor

    def __init__(
        self, backbone, preprocessor=None, pooling="mean", whitening_dim=None, **kwargs
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        policy = backbone.token_embedding.dtype_policy
        self.pooling = poolings.get(pooling, dtype=policy, name="pooling")
        self.pooling.build((None, None, backbone.hidden_dim))
        self.whitening_dim = whitening_dim
        if whitening_dim is not None:
            if not 1 <= whitening_dim <= backbone.hidden_dim:
                raise ValueError(
                    f"`whitening_dim` must lie in [1, {backbone.hidden_dim}], the size "
                    f"of the hidden states. Received {whitening_dim}."
                )
            self._add_whitening(backbone.hidden_dim, whitening_dim)
        self.built = True

    def _add_whitening(self, hidden_dim, whitening_dim):
        arguments = {"dtype": "float32", "trainable": False}
        self.whitening_mean = self.add_weight(
            name="whitening_mean", shape=(hidden_dim,), initializer="zeros", **arguments
        )
        self.whitening_kernel = self.add_weight(
            name="whitening_kernel",
            shape=(hidden_dim, whitening_dim),
            initializer=lambda shape, dtype=None: ops.eye(*shape, dtype=dtype),
            **arguments,
        )

    def call(self, inputs, training=None):
        inputs = self.backbone.complete_inputs(inputs)
        x = self.hidden_states(inputs, training=training)
        x = ops.cast(self.pooling(x, inputs["padding_mask"]), "float32")
        if self.whitening_dim is None:
            return x
        centred = x - ops.convert_to_tensor(self.whitening_mean)
        return ops.matmul(centred, ops.convert_to_tensor(self.whitening_kernel))

    def compute_output_spec(self, inputs, training=None):
        dim = self.whitening_dim or self.backbone.hidden_dim
        batch_size = inputs["token_ids"].shape[0]
        return keras.KerasTensor((batch_size, dim), dtype="float32")

    def default_loss(self):
        raise ValueError(
            "A text embedder has no loss of its own. Pass one of "
            "bert4keras3.embedding_losses: loss=CoSENTLoss() for pairs with scores, or "
            "loss=SimCSELoss() for pairs that mean the same."
        )

    def embed(self, texts, normalize=True, batch_size=32):
        """Vectors of texts.

        Args:
            texts: a string or a list of strings.
            normalize: divide each by its length, so that a product is the cosine.
            batch_size: texts per batch.

        Returns:
            float32 array `(D,)` or `(len(texts), D)`.

        Raises:
            ValueError: the task has no preprocessor.
        """
        single = isinstance(texts, str)
        texts = as_batch(texts, "texts")
        size = self.whitening_dim or self.backbone.hidden_dim
        vectors = np.concatenate(
            [
                np.zeros((0, size), "float32"),
                *self.outputs_of(texts, batch_size=batch_size),
            ]
        )
        if normalize:
            lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
            vectors = vectors / np.maximum(lengths, 1e-12)
        return vectors[0] if single else vectors

    def fit_whitening(self, texts, batch_size=32):
        """Set the whitening so that the vectors of these texts have unit covariance.

        `K` holds the first directions of the covariance `U L U^T`, each divided by its
        deviation: `K = U L^-1/2`. Source: https://kexue.fm/archives/8069,
        https://arxiv.org/abs/2103.15316.

        Raises:
            ValueError: the task was built without `whitening_dim`, or there are no
                more texts than dimensions.
        """
        if self.whitening_dim is None:
            raise ValueError(
                "Build the task with whitening_dim=..., for example that of the hidden "
                f"states, {self.backbone.hidden_dim}."
            )
        if len(texts) <= self.whitening_dim:
            raise ValueError(
                f"Whitening to {self.whitening_dim} dimensions needs more texts than "
                f"that. Received {len(texts)}."
            )
        preprocessor, pooled = self.required_preprocessor(), []
        for at in range(0, len(texts), batch_size):
            batch = texts[at : at + batch_size]
            inputs = preprocessor(batch, inputs_only=True)
            states = self.hidden_states(inputs, training=False)
            rows = self.pooling(states, ops.convert_to_tensor(inputs["padding_mask"]))
            pooled.append(to_numpy(ops.cast(rows, "float32")).astype("float64"))
        rows = np.concatenate(pooled)
        mean = rows.mean(0)
        _, deviations, directions = np.linalg.svd(rows - mean, full_matrices=False)
        kernel = directions.T * (len(rows) ** 0.5 / np.maximum(deviations, 1e-9))
        self.whitening_mean.assign(mean.astype("float32"))
        self.whitening_kernel.assign(kernel[:, : self.whitening_dim].astype("float32"))

    def get_config(self):
        return {
            **super().get_config(),
            "pooling": poolings.serialize(self.pooling),
            "whitening_dim": self.whitening_dim,
        }
