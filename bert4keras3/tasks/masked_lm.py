"""Masked language model: logits over the vocabulary, at all or at chosen positions."""

import keras
from keras import ops

from bert4keras3.layers.initializer import fresh
from bert4keras3.tasks.masked_lm_preprocessor import MaskedLMPreprocessor
from bert4keras3.tasks.task import Task, to_numpy
from bert4keras3.text.inputs import as_batch


@keras.saving.register_keras_serializable(package="bert4keras3")
class MaskedLMHead(keras.layers.Layer):
    """From hidden states to logits through the transposed token embedding.

    With `transform`, as in BERT and RoFormer: `LN(f(x W + b)) E^T + output_bias`.
    Without, as in RoFormerV2 and GAU-α: `dropout(x) E^T`, with no weight of its own,
    or `dropout(x) W E^T` where the embedding is narrower than the hidden states.

    Args:
        token_embedding: the backbone's `ReversibleEmbedding`.
        transform: put a dense layer and a layer norm before, and a bias after.
        activation: activation of the dense layer.
        epsilon: epsilon of the layer norm.
        dropout: rate before the projection, without transform.
        kernel_initializer: initializer of the dense layer.

    Call arguments:
        x: `(..., hidden_dim)`.

    Returns:
        float32 logits `(..., vocabulary_size)`.
    """

    def __init__(
        self,
        token_embedding,
        transform=False,
        activation="gelu",
        epsilon=1e-7,
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.token_embedding = token_embedding
        self.transform = transform
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        if transform:
            self.transform_dense = keras.layers.Dense(
                token_embedding.output_dim,
                activation=activation,
                kernel_initializer=fresh(keras.initializers.get(kernel_initializer)),
                dtype=self.dtype_policy,
                name="transform_dense",
            )
            self.transform_norm = keras.layers.LayerNormalization(
                epsilon=epsilon, dtype=self.dtype_policy, name="transform_norm"
            )

        self.initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        embedding_dim = self.token_embedding.output_dim
        self.output_projection = None
        if not self.transform and input_shape[-1] != embedding_dim:
            self.output_projection = keras.layers.Dense(
                embedding_dim,
                use_bias=False,
                kernel_initializer=fresh(self.initializer),
                dtype=self.dtype_policy,
                name="output_projection",
            )
            self.output_projection.build(input_shape)
        if self.transform:
            self.transform_dense.build(input_shape)
            self.transform_norm.build(
                (*input_shape[:-1], self.token_embedding.output_dim)
            )
            self.output_bias = self.add_weight(
                name="output_bias",
                shape=(self.token_embedding.input_dim,),
                initializer="zeros",
            )

    def call(self, x, training=None):
        if self.transform:
            x = self.transform_norm(self.transform_dense(x))
        else:
            x = self.dropout_layer(x, training=training)
        if self.output_projection is not None:
            x = self.output_projection(x)
        logits = ops.cast(self.token_embedding(x, reverse=True), "float32")
        if self.transform:
            logits = logits + ops.cast(self.output_bias, "float32")
        return logits

    def compute_output_spec(self, x, training=None):
        vocabulary_size = self.token_embedding.input_dim
        return keras.KerasTensor((*x.shape[:-1], vocabulary_size), dtype="float32")


@keras.saving.register_keras_serializable(package="bert4keras3")
class MaskedLM(Task):
    """Masked language model over any backbone.

    Inputs are the backbone's; with `mask_positions` `(B, P)` beside them, only these
    positions are projected on the vocabulary, which is most of the work saved.

    Args:
        backbone: a `Backbone`.
        preprocessor: a `MaskedLMPreprocessor`, or `None`.

    Returns:
        float32 logits `(B, T, vocabulary_size)`, or `(B, P, vocabulary_size)`. With the
        causal mask, position `t` holds the logits of token `t + 1`.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> model = MaskedLM(GAUAlphaBackbone(50, 1, 16, 32, key_dim=8))
    >>> ids = np.array([[2, 9, 9, 3]])
    >>> tuple(model({"token_ids": ids, "mask_positions": np.array([[1]])}).shape)
    (1, 1, 50)
    """

    preprocessor_class = MaskedLMPreprocessor
    has_released_head = True

    def __init__(self, backbone, preprocessor=None, **kwargs):
        super().__init__(backbone, preprocessor, **kwargs)
        self.head = MaskedLMHead(
            backbone.token_embedding,
            **backbone.masked_lm_head_config(),
            dtype=backbone.token_embedding.dtype_policy,
            name="masked_lm_head",
        )
        self.head.build((None, None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        mask_positions = inputs.pop("mask_positions", None)
        x = self.hidden_states(inputs, training=training)
        if mask_positions is not None:
            positions = ops.expand_dims(ops.cast(mask_positions, "int32"), -1)
            x = ops.take_along_axis(x, positions, axis=1)
        return self.head(x, training=training)

    def compute_output_spec(self, inputs, training=None):
        places = inputs.get("mask_positions", inputs["token_ids"])
        shape = (*places.shape, self.backbone.vocabulary_size)
        return keras.KerasTensor(shape, dtype="float32")

    def fill(self, text, top_k=5):
        """Most likely tokens for every `[MASK]` in a text.

        Args:
            text: a string with at least one mask token, or a list of such strings.
            top_k: how many candidates per blank.

        Returns:
            For a string, a list with one entry per blank, each a list of
            `(token, probability)`, best first; for a list, a list of these.

        Raises:
            ValueError: no preprocessor, or a text without a mask token.
        """
        single = isinstance(text, str)
        texts = as_batch(text, "text")
        if not texts:
            return []
        preprocessor = self.required_preprocessor()
        tokenizer = preprocessor.tokenizer
        top_k = min(top_k, tokenizer.vocabulary_size)
        inputs = preprocessor.encode_blanks(texts)
        blanks = inputs["token_ids"] == tokenizer.mask_token_id
        for row, each in zip(blanks, texts, strict=True):
            if not row.any():
                raise ValueError(
                    f"There is no {tokenizer.mask_token} to fill in {each!r} (or it "
                    f"was cut off at {inputs['token_ids'].shape[1]} tokens)."
                )
        probabilities = to_numpy(ops.softmax(self(inputs, training=False), axis=-1))
        filled = []
        for row, distributions in zip(blanks, probabilities, strict=True):
            best = [
                [
                    (tokenizer.id_to_token(int(i)), float(distribution[i]))
                    for i in distribution.argsort()[::-1][:top_k]
                ]
                for distribution in distributions[row]
            ]
            filled.append(best)
        return filled[0] if single else filled
