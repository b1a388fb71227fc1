"""GAU-α: RoFormerV2 with gated attention units in place of attention plus FFN."""

import keras

from bert4keras3.layers import activation as activations
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.initializer import DepthScaledTruncatedNormal, fresh
from bert4keras3.layers.normalization import RMSNorm
from bert4keras3.models.attention_plan import AttentionPlan
from bert4keras3.models.backbone import Backbone
from bert4keras3.models.weight_map import without_prefix

TF1_LAYER = "GAU_alpha/encoder/layer_{}/gau/"
TORCH_LAYER = "gau_alpha.encoder.layer.{}.gau."
BERT4TORCH_LAYER = "encoderLayer.{}.gau."
H5_LAYER = "Transformer-{}-GatedAttentionUnit/"


def _h5_table(query_scale, key_scale, output):
    return (
        ("token_embedding/embeddings", "Embedding-Token/0"),
        ("segment_embedding/embeddings", "Embedding-Segment/0"),
        ("embeddings_projection/kernel", "Embedding-Mapping/0"),
        ("gau_{}/gate_dense/kernel", H5_LAYER + "0", "part 0/3"),
        ("gau_{}/value_dense/kernel", H5_LAYER + "0", "part 1/3"),
        ("gau_{}/shared_dense/kernel", H5_LAYER + "0", "part 2/3"),
        ("gau_{}/query_scale/scale", f"{H5_LAYER}{query_scale}"),
        ("gau_{}/key_scale/scale", f"{H5_LAYER}{key_scale}"),
        ("gau_{}/output_dense/kernel", f"{H5_LAYER}{output}"),
    )


TRANSFORMERS = (
    ("token_embedding/embeddings", "gau_alpha.embeddings.word_embeddings.weight"),
    (
        "segment_embedding/embeddings",
        "gau_alpha.embeddings.token_type_embeddings.weight",
    ),
    ("embeddings_projection/kernel", "gau_alpha.embeddings_project.weight", "T"),
    ("gau_{}/gate_dense/kernel", TORCH_LAYER + "i_dense.weight", "T part 0/3"),
    ("gau_{}/value_dense/kernel", TORCH_LAYER + "i_dense.weight", "T part 1/3"),
    ("gau_{}/shared_dense/kernel", TORCH_LAYER + "i_dense.weight", "T part 2/3"),
    ("gau_{}/query_scale/scale", TORCH_LAYER + "q_scaleoffset.weight"),
    ("gau_{}/key_scale/scale", TORCH_LAYER + "k_scaleoffset.weight"),
    ("gau_{}/output_dense/kernel", TORCH_LAYER + "o_dense.weight", "T"),
)

WEIGHT_MAPS = {
    "tf1": (
        ("token_embedding/embeddings", "bert/embeddings/word_embeddings"),
        ("segment_embedding/embeddings", "bert/embeddings/token_type_embeddings"),
        (
            "embeddings_projection/kernel",
            "bert/encoder/embedding_hidden_mapping_in/kernel",
        ),
        ("gau_{}/gate_dense/kernel", TF1_LAYER + "i_dense/kernel", "part 0/3"),
        ("gau_{}/value_dense/kernel", TF1_LAYER + "i_dense/kernel", "part 1/3"),
        ("gau_{}/shared_dense/kernel", TF1_LAYER + "i_dense/kernel", "part 2/3"),
        ("gau_{}/query_scale/scale", TF1_LAYER + "q_scaleoffset/gamma"),
        ("gau_{}/key_scale/scale", TF1_LAYER + "k_scaleoffset/gamma"),
        ("gau_{}/output_dense/kernel", TF1_LAYER + "o_dense/kernel"),
    ),
    "transformers": TRANSFORMERS,
    "transformers_bare": without_prefix(TRANSFORMERS, "gau_alpha."),
    "bert4torch": (
        ("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
        ("segment_embedding/embeddings", "embeddings.segment_embeddings.weight"),
        ("gau_{}/gate_dense/kernel", BERT4TORCH_LAYER + "i_dense.weight", "T part 0/3"),
        (
            "gau_{}/value_dense/kernel",
            BERT4TORCH_LAYER + "i_dense.weight",
            "T part 1/3",
        ),
        (
            "gau_{}/shared_dense/kernel",
            BERT4TORCH_LAYER + "i_dense.weight",
            "T part 2/3",
        ),
        ("gau_{}/query_scale/scale", BERT4TORCH_LAYER + "offsetscale.gamma", "row 0/2"),
        ("gau_{}/key_scale/scale", BERT4TORCH_LAYER + "offsetscale.gamma", "row 1/2"),
        ("gau_{}/output_dense/kernel", BERT4TORCH_LAYER + "o_dense.weight", "T"),
    ),
    # bert4keras's Keras-2 h5 files name layers, and number the weights in them.
    "bert4keras_h5": _h5_table(query_scale=1, key_scale=2, output=3),
    # The order until bert4keras 0.11.3.
    "bert4keras_h5_2022": _h5_table(query_scale=2, key_scale=3, output=1),
}


@keras.saving.register_keras_serializable(package="bert4keras3")
class GAUAlphaBackbone(Backbone):
    """GAU-α: a stack of gated attention units with post-norm and no biases.

    `x = rms_norm(dropout(E_token + E_segment))`, then per layer
    `x = rms_norm(x + dropout(GAU(x)))`. Attention is entropy invariant (log-n scaled
    softmax), positions are rotary, the masked-LM head is the tied token embedding.
    Source: https://kexue.fm/archives/9052.

    Args:
        vocabulary_size: number of tokens.
        num_layers: number of gated attention units.
        hidden_dim: width of the hidden states.
        intermediate_dim: width of gate and value.
        key_dim: width of query and key, even.
        embedding_dim: width of the embeddings, by default `hidden_dim`.
        num_segments: number of segment ids.
        activation: activation of the gated attention units.
        dropout: rate on embeddings and on each layer's output.
        attention_dropout: rate on the attention weights.
        attention: which query sees which key: `"bidirectional"`, `"causal"`,
            `"prefix"`, or another mask or schedule, see `attention_schedule`.
        normalizer: attention normalizer; pass
            `EntropyInvariantSoftmax(min_length=1)` for the numbers GAU-α was published
            with on rows of fewer than 16 tokens.
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

    >>> model = GAUAlphaBackbone(100, 2, 32, 64, key_dim=16)
    >>> tuple(model({"token_ids": np.array([[5, 6, 7, 0]])}).shape)
    (1, 4, 32)
    """

    weight_maps = WEIGHT_MAPS
    # bert4torch's copy of the tied output matrix.
    dropped_weights = ("mlmDecoder.weight",)
    lora_layers = ("shared_dense", "value_dense")
    zero_segments = True

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        hidden_dim,
        intermediate_dim,
        key_dim=128,
        embedding_dim=None,
        num_segments=2,
        activation="silu",
        dropout=0.1,
        attention_dropout=0.1,
        attention="bidirectional",
        normalizer="entropy_invariant_softmax",
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
            kernel_initializer or DepthScaledTruncatedNormal(num_layers, order=3)
        )
        embedding_dim = embedding_dim or hidden_dim
        plan = AttentionPlan(
            num_layers,
            num_heads=1,
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
        gau_layers = [
            GatedAttentionUnit(
                intermediate_dim,
                key_dim=key_dim,
                activation=activation,
                use_bias=False,
                dropout=attention_dropout,
                kernel_initializer=initializer,
                dtype=dtype,
                name=f"gau_{i}",
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
        for i, gau in enumerate(gau_layers):
            residual = x
            x = gau(x, **attentions[i])
            x = keras.layers.Dropout(dropout, dtype=dtype, name=f"gau_{i}_dropout")(x)
            x = RMSNorm(epsilon, dtype=dtype, name=f"gau_{i}_norm")(residual + x)

        # === Config ===
        config = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
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
            or DepthScaledTruncatedNormal(self.num_layers, order=3),
        }
