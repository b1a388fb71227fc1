"""BERT, the baseline of the published tables (also RoBERTa-wwm-ext)."""

import math

import keras

from bert4keras3.layers import activation as activations
from bert4keras3.layers.initializer import fresh
from bert4keras3.layers.pooler import Pooler
from bert4keras3.layers.position_embedding import PositionEmbedding
from bert4keras3.layers.transformer_layer import TransformerLayer
from bert4keras3.models import encoder_tables
from bert4keras3.models.attention_plan import AttentionPlan
from bert4keras3.models.backbone import Backbone
from bert4keras3.models.weight_map import without_prefix


def _torch_map(norm):
    return (
        *encoder_tables.torch_table("bert.", norm=norm),
        ("position_embedding/embeddings", "bert.embeddings.position_embeddings.weight"),
        *encoder_tables.torch_head_table("bert.", norm=norm),
    )


@keras.saving.register_keras_serializable(package="bert4keras3")
class BertBackbone(Backbone):
    """BERT: post-norm Transformer encoder with learned absolute positions.

    `x = dropout(layer_norm(E_token + E_segment + E_position))`, then per layer
    `x = LN(x + Attention(x))` and `x = LN(x + FFN(x))`.
    Source: https://arxiv.org/abs/1810.04805.

    Args:
        vocabulary_size: number of tokens.
        num_layers: number of Transformer layers.
        num_heads: number of attention heads.
        hidden_dim: width of the hidden states, a multiple of `num_heads`.
        intermediate_dim: width of the feed-forward layers.
        max_sequence_length: rows of the position table.
        embedding_dim: width of the embeddings, by default `hidden_dim`.
        num_segments: number of segment ids.
        activation: activation of the feed-forward layers and the masked-LM head;
            `"gelu"` is the exact one, by erf. A list makes the feed-forward layers
            gated, see `FeedForward`, and the head takes the first.
        dropout: rate on embeddings and on each sublayer's output.
        attention_dropout: rate on the attention weights.
        attention: which query sees which key: `"bidirectional"`, `"causal"`,
            `"prefix"`, or another mask or schedule, see `attention_schedule`.
        normalizer: attention normalizer.
        rotary_embedding, position_bias, position_weighting: further positions, beside
            the table's, by name, config or instance; `None` for none, as in BERT.
        query_key_norm, position_sampler: see the other backbones; `None` for none.
        pooler: `None`, or the activation of a pooler, `"tanh"` or `"linear"`; with a
            pooler the output is a dict of `hidden_states` and `pooled`.
        use_position_ids: take `position_ids` (whole numbers) as a fourth input.
        epsilon: epsilon of the layer norms.
        kernel_initializer: `None` for a truncated normal of 0.02.
        dtype: dtype policy.

    Example:

    >>> model = BertBackbone(100, 2, 4, 32, 64)
    >>> tuple(model({"token_ids": np.array([[5, 6, 7, 0]])}).shape)
    (1, 4, 32)
    """

    weight_maps = {
        "tf1": (
            *encoder_tables.tf1_table(),
            ("position_embedding/embeddings", "bert/embeddings/position_embeddings"),
            *(
                (
                    f"embeddings_projection/{name}",
                    f"bert/encoder/embedding_hidden_mapping_in/{name}",
                )
                for name in ("kernel", "bias")
            ),
            *encoder_tables.tf1_head_table(),
        ),
        "transformers": _torch_map(("weight", "bias")),
        "transformers_bare": without_prefix(_torch_map(("weight", "bias")), "bert."),
        "tf_h5": (
            *encoder_tables.tf_h5_table("bert/"),
            (
                "position_embedding/embeddings",
                "bert/embeddings/position_embeddings/embeddings",
            ),
            *encoder_tables.tf_h5_head_table("bert/"),
        ),
        "bert4keras_h5": (
            *encoder_tables.h5_table(),
            ("position_embedding/embeddings", "Embedding-Position/0"),
            *encoder_tables.H5_HEAD_TABLE,
        ),
        # Files converted before 2019 keep TensorFlow's names for the norms.
        "transformers_2018": _torch_map(("gamma", "beta")),
    }
    # Copies of tied weights, and the constant 0, 1, 2, ...
    dropped_weights = (
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "*embeddings.position_ids",
    )

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        num_heads,
        hidden_dim,
        intermediate_dim,
        max_sequence_length=512,
        embedding_dim=None,
        num_segments=2,
        activation="gelu",
        dropout=0.1,
        attention_dropout=0.1,
        attention="bidirectional",
        normalizer="softmax",
        rotary_embedding=None,
        position_bias=None,
        position_weighting=None,
        query_key_norm=None,
        position_sampler=None,
        pooler=None,
        use_position_ids=False,
        epsilon=1e-12,
        kernel_initializer=None,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.TruncatedNormal(stddev=0.02)
        )
        embedding_dim = embedding_dim or hidden_dim
        position_embedding = PositionEmbedding(
            max_sequence_length,
            embeddings_initializer=initializer,
            dtype=dtype,
            name="position_embedding",
        )
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
        reach = getattr(plan.position_sampler, "max_position", math.inf)
        if plan.position_sampler is not None and reach > max_sequence_length:
            raise ValueError(
                f"The position table has {max_sequence_length} rows, and the position "
                "sampler draws others. Take RandomPositions(max_position="
                f"{max_sequence_length}), or a model with rotary positions."
            )
        transformer_layers = [
            TransformerLayer(
                num_heads,
                intermediate_dim,
                activation=activation,
                dropout=dropout,
                attention_dropout=attention_dropout,
                norm="layer_norm",
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
        attentions = plan.call_arguments(inputs)
        x = position_embedding(x, positions=attentions[0]["positions"])
        x = keras.layers.LayerNormalization(
            epsilon=epsilon, dtype=dtype, name="embeddings_norm"
        )(x)
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embeddings_dropout")(x)
        if embedding_dim != hidden_dim:
            x = keras.layers.Dense(
                hidden_dim,
                kernel_initializer=fresh(initializer),
                dtype=dtype,
                name="embeddings_projection",
            )(x)
        for layer, arguments in zip(transformer_layers, attentions, strict=True):
            x = layer(x, **arguments)
        outputs = x
        if pooler is not None:
            pooled = Pooler(pooler, fresh(initializer), dtype=dtype, name="pooler")(x)
            outputs = {"hidden_states": x, "pooled": pooled}

        # === Config ===
        config = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "hidden_dim": hidden_dim,
            "intermediate_dim": intermediate_dim,
            "max_sequence_length": max_sequence_length,
            "embedding_dim": embedding_dim,
            "num_segments": num_segments,
            "activation": activations.serialize(activation),
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            **plan.get_config(),
            "pooler": pooler,
            "use_position_ids": use_position_ids,
            "epsilon": epsilon,
            "kernel_initializer": kernel_initializer
            and keras.initializers.serialize(initializer),
        }
        super().__init__(inputs, outputs, config, dtype=dtype, **kwargs)

    def masked_lm_head_config(self):
        return {
            "transform": True,
            "activation": activations.serialize(
                activations.get_all(self.activation)[0]
            ),
            "epsilon": self.epsilon,
            "kernel_initializer": self.kernel_initializer
            or keras.initializers.TruncatedNormal(stddev=0.02),
        }
