"""RoFormerV2: RoFormer without biases and with a norm that has no weights."""

import keras

from bert4keras3.layers import activation as activations
from bert4keras3.layers.initializer import DepthScaledTruncatedNormal, fresh
from bert4keras3.layers.normalization import RMSNorm
from bert4keras3.layers.transformer_layer import TransformerLayer
from bert4keras3.models import encoder_tables
from bert4keras3.models.attention_plan import AttentionPlan
from bert4keras3.models.backbone import Backbone
from bert4keras3.models.weight_map import without_prefix

TRANSFORMERS = (
    *encoder_tables.torch_table("roformer.", use_bias=False),
    ("embeddings_projection/kernel", "roformer.embeddings_project.weight", "T"),
)


@keras.saving.register_keras_serializable(package="bert4keras3")
class RoFormerV2Backbone(Backbone):
    """RoFormerV2: post-norm Transformer encoder with rotary positions and no biases.

    `x = rms_norm(dropout(E_token + E_segment))`, then per layer
    `x = rms_norm(x + Attention(x))` and `x = rms_norm(x + FFN(x))`. The masked-LM head
    is the tied token embedding. Source: https://kexue.fm/archives/8998.

    Args:
        vocabulary_size: number of tokens.
        num_layers: number of Transformer layers.
        num_heads: number of attention heads.
        hidden_dim: width of the hidden states, a multiple of `num_heads`.
        intermediate_dim: width of the feed-forward layers.
        key_dim: size of a query and key vector, by default `hidden_dim / num_heads`.
        embedding_dim: width of the embeddings, by default `hidden_dim`.
        num_segments: number of segment ids.
        activation: activation of the feed-forward layers; a list makes them gated, see
            `FeedForward`.
        dropout: rate on embeddings and on each sublayer's output.
        attention_dropout: rate on the attention weights.
        attention: which query sees which key: `"bidirectional"`, `"causal"`,
            `"prefix"`, or another mask or schedule, see `attention_schedule`.
        normalizer: attention normalizer.
        rotary_embedding: rotary embedding by name, config or instance; `None` for none.
        position_bias: positions added to the logits, see `attention_bias`; or `None`.
        position_weighting: positions that act after the normalizer, or `None`.
        query_key_norm: norm of query and key, or `None`.
        position_sampler: positions sampled while training, or `None`.
        use_position_ids: take `position_ids` as a fourth input.
        epsilon: epsilon of the norms.
        kernel_initializer: `None` for the original's depth-scaled one.
        dtype: dtype policy.

    Example:

    >>> model = RoFormerV2Backbone(100, 2, 4, 32, 64)
    >>> tuple(model({"token_ids": np.array([[5, 6, 7, 0]])}).shape)
    (1, 4, 32)
    """

    weight_maps = {
        "tf1": (
            *encoder_tables.tf1_table(use_bias=False),
            (
                "embeddings_projection/kernel",
                "bert/encoder/embedding_hidden_mapping_in/kernel",
            ),
        ),
        "transformers": TRANSFORMERS,
        "transformers_bare": without_prefix(TRANSFORMERS, "roformer."),
        "bert4keras_h5": (
            *encoder_tables.h5_table(use_bias=False),
            ("embeddings_projection/kernel", "Embedding-Mapping/0"),
        ),
    }
    # Copies of the tied output matrix, and the constant table of angles.
    dropped_weights = (
        "cls.predictions.decoder.weight",
        "*encoder.embed_positions.weight",
    )
    zero_segments = True

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        num_heads,
        hidden_dim,
        intermediate_dim,
        key_dim=None,
        embedding_dim=None,
        num_segments=2,
        activation="relu",
        dropout=0.1,
        attention_dropout=0.1,
        attention="bidirectional",
        normalizer="softmax",
        rotary_embedding="rope",
        position_bias=None,
        position_weighting=None,
        query_key_norm=None,
        position_sampler=None,
        use_position_ids=False,
        epsilon=1e-7,
        kernel_initializer=None,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        initializer = keras.initializers.get(
            kernel_initializer or DepthScaledTruncatedNormal(num_layers, order=2)
        )
        embedding_dim = embedding_dim or hidden_dim
        plan = AttentionPlan(
            num_layers,
            num_heads,
            attention=attention,
            normalizer=normalizer,
            rotary_embedding=rotary_embedding,
            position_bias=position_bias,
            position_weighting=position_weighting,
            query_key_norm=query_key_norm,
            position_sampler=position_sampler,
            use_position_ids=use_position_ids,
            dtype=dtype,
        )
        transformer_layers = [
            TransformerLayer(
                num_heads,
                intermediate_dim,
                key_dim=key_dim,
                activation=activation,
                dropout=dropout,
                attention_dropout=attention_dropout,
                use_bias=False,
                norm="rms_norm",
                epsilon=epsilon,
                kernel_initializer=initializer,
                dtype=dtype,
                name=f"transformer_layer_{i}",
                **plan.layer_arguments(i),
            )
            for i in range(num_layers)
        ]

        # === Functional model ===
        inputs = self.make_inputs(use_position_ids)
        x = self.embed(
            inputs, vocabulary_size, num_segments, embedding_dim, initializer, dtype
        )
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embeddings_dropout")(x)
        x = RMSNorm(epsilon, dtype=dtype, name="embeddings_norm")(x)
        if embedding_dim != hidden_dim:
            x = keras.layers.Dense(
                hidden_dim,
                use_bias=False,
                kernel_initializer=fresh(initializer),
                dtype=dtype,
                name="embeddings_projection",
            )(x)
        attentions = plan.call_arguments(inputs)
        for layer, arguments in zip(transformer_layers, attentions, strict=True):
            x = layer(x, **arguments)

        # === Config ===
        config = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "hidden_dim": hidden_dim,
            "intermediate_dim": intermediate_dim,
            "key_dim": key_dim,
            "embedding_dim": embedding_dim,
            "num_segments": num_segments,
            "activation": activations.serialize(activation),
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            **plan.get_config(),
            "use_position_ids": use_position_ids,
            "epsilon": epsilon,
            "kernel_initializer": kernel_initializer
            and keras.initializers.serialize(initializer),
        }
        super().__init__(inputs, x, config, dtype=dtype, **kwargs)

    def masked_lm_head_config(self):
        return {
            "dropout": self.dropout,
            "kernel_initializer": self.kernel_initializer
            or DepthScaledTruncatedNormal(self.num_layers, order=2),
        }
