"""RoFormer: BERT with rotary positions."""

import keras

from bert4keras3.layers import activation as activations
from bert4keras3.layers.initializer import fresh
from bert4keras3.layers.pooler import Pooler
from bert4keras3.layers.transformer_layer import TransformerLayer
from bert4keras3.models import encoder_tables
from bert4keras3.models.attention_plan import AttentionPlan
from bert4keras3.models.backbone import Backbone
from bert4keras3.models.weight_map import without_prefix

TF1_MAPPING = (
    (
        "embeddings_projection/kernel",
        "bert/encoder/embedding_hidden_mapping_in/kernel",
    ),
    ("embeddings_projection/bias", "bert/encoder/embedding_hidden_mapping_in/bias"),
)
TORCH_MAPPING = (
    ("embeddings_projection/kernel", "roformer.embeddings_project.weight", "T"),
    ("embeddings_projection/bias", "roformer.embeddings_project.bias"),
)
TRANSFORMERS = (
    *encoder_tables.torch_table("roformer."),
    *TORCH_MAPPING,
    *encoder_tables.torch_head_table("roformer."),
)
H5_MAPPING = (
    ("embeddings_projection/kernel", "Embedding-Mapping/0"),
    ("embeddings_projection/bias", "Embedding-Mapping/1"),
)


@keras.saving.register_keras_serializable(package="bert4keras3")
class RoFormerBackbone(Backbone):
    """RoFormer: post-norm Transformer encoder with rotary positions.

    `x = dropout(layer_norm(E_token + E_segment))`, a projection if `embedding_dim`
    differs from `hidden_dim`, then per layer `x = LN(x + Attention(x))` and
    `x = LN(x + FFN(x))`, with biases everywhere. RoFormer-GPT is the same network with
    `attention="causal"`, RoFormer-Sim with `attention="prefix"` and a linear pooler.
    Source: https://arxiv.org/abs/2104.09864.

    Args:
        vocabulary_size: number of tokens.
        num_layers: number of Transformer layers.
        num_heads: number of attention heads.
        hidden_dim: width of the hidden states, a multiple of `num_heads`.
        intermediate_dim: width of the feed-forward layers.
        key_dim: size of a query and key vector, by default `hidden_dim / num_heads`.
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
        rotary_embedding: rotary embedding by name, config or instance; `None` for none.
        position_bias: positions added to the logits, see `attention_bias`; or `None`.
        position_weighting: positions that act after the normalizer, or `None`.
        query_key_norm: norm of query and key, or `None`.
        position_sampler: positions sampled while training, or `None`.
        pooler: `None`, or the activation of a pooler, `"tanh"` or `"linear"`; with a
            pooler the output is a dict of `hidden_states` and `pooled`.
        use_position_ids: take `position_ids` as a fourth input.
        epsilon: epsilon of the layer norms. bert4keras 0.11.5 has 1e-7, the torch
            mirrors 1e-12.
        kernel_initializer: `None` for a truncated normal of 0.02.
        dtype: dtype policy.

    Example:

    >>> model = RoFormerBackbone(100, 2, 4, 32, 64)
    >>> tuple(model({"token_ids": np.array([[5, 6, 7, 0]])}).shape)
    (1, 4, 32)
    """

    weight_maps = {
        "tf1": (
            *encoder_tables.tf1_table(),
            *TF1_MAPPING,
            *encoder_tables.tf1_head_table(),
        ),
        "transformers": TRANSFORMERS,
        "transformers_bare": without_prefix(TRANSFORMERS, "roformer."),
        "tf_h5": (
            *encoder_tables.tf_h5_table("roformer/"),
            ("embeddings_projection/kernel", "roformer/embeddings_project/kernel"),
            ("embeddings_projection/bias", "roformer/embeddings_project/bias"),
            *encoder_tables.tf_h5_head_table("roformer/"),
        ),
        "bert4keras_h5": (
            *encoder_tables.h5_table(),
            *H5_MAPPING,
            *encoder_tables.H5_HEAD_TABLE,
        ),
    }
    # Copies of tied weights, and the constant table of angles.
    dropped_weights = (
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "*encoder.embed_positions.weight",
        "roformer/encoder/embed_positions/embeddings",
    )

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
        activation="gelu",
        dropout=0.1,
        attention_dropout=0.1,
        attention="bidirectional",
        normalizer="softmax",
        rotary_embedding="rope",
        position_bias=None,
        position_weighting=None,
        query_key_norm=None,
        position_sampler=None,
        pooler=None,
        use_position_ids=False,
        epsilon=1e-7,
        kernel_initializer=None,
        dtype=None,
        **kwargs,
    ):
        # === Layers ===
        initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.TruncatedNormal(stddev=0.02)
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
        attentions = plan.call_arguments(inputs)
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
            "key_dim": key_dim,
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
