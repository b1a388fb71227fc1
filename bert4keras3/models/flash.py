"""FLASH: gated attention units in linear time, and FLASH-Quad, in quadratic time."""

import keras

from bert4keras3.layers import activation as activations
from bert4keras3.layers import attention_mask
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.gated_attention_unit import GatedAttentionUnit
from bert4keras3.layers.initializer import DepthScaledTruncatedNormal
from bert4keras3.layers.mixed_chunk_attention import MixedChunkAttentionUnit
from bert4keras3.layers.normalization import RMSNorm
from bert4keras3.models.backbone import Backbone

ATTENTIONS = ("bidirectional", "causal")


@keras.saving.register_keras_serializable(package="bert4keras3")
class FLASHBackbone(Backbone):
    """FLASH: a stack of gated attention units whose cost is linear in the length.

    `x = rms_norm(dropout(E_token + E_segment))`, then per layer
    `x = rms_norm(x + dropout(unit(x)))`: post-norm, as in GAU-α, where the paper has
    pre-norm. The unit is `MixedChunkAttentionUnit`, or, with `chunk_size=None`
    (FLASH-Quad), `GatedAttentionUnit` with squared ReLU, whose cost is quadratic.
    Positions are rotary only, as in the post, where the paper adds absolute and
    relative ones. The masked-LM head is the tied token embedding. No weights were
    released.

    Padding changes no token, whatever its content and length. Time and memory grow with
    the length `T`, or, with `chunk_size=None`, with `T^2`.

    Sources: https://arxiv.org/abs/2202.10447, https://kexue.fm/archives/8934.

    Args:
        vocabulary_size: number of tokens.
        num_layers: number of units.
        hidden_dim: width of the hidden states.
        intermediate_dim: width of gate and value, `2 * hidden_dim` in the paper.
        key_dim: width of queries and keys, even.
        chunk_size: places of a chunk; `None` for FLASH-Quad.
        num_segments: number of segment ids.
        activation: activation of the units.
        dropout: rate on embeddings and on each layer's output.
        attention_dropout: rate on the quadratic attention weights.
        attention: `"bidirectional"` or `"causal"`.
        rotary_embedding: rotary embedding by name, config or instance.
        use_bias: biases in the units, and offsets of queries and keys.
        use_position_ids: take `position_ids` as a fourth input.
        epsilon: epsilon of the norms.
        kernel_initializer: `None` for GAU-α's depth-scaled one.
        dtype: dtype policy.

    Raises:
        ValueError: another `attention`, or what the units refuse.

    Example:

    >>> model = FLASHBackbone(100, 2, 32, 64, key_dim=16, chunk_size=8)
    >>> tuple(model({"token_ids": np.array([[5, 6, 7, 0]])}).shape)
    (1, 4, 32)
    """

    lora_layers = ("shared_dense", "value_dense")
    zero_segments = True

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        hidden_dim,
        intermediate_dim,
        key_dim=128,
        chunk_size=256,
        num_segments=2,
        activation="silu",
        dropout=0.1,
        attention_dropout=0.1,
        attention="bidirectional",
        rotary_embedding="rope",
        use_bias=True,
        use_position_ids=False,
        epsilon=1e-7,
        kernel_initializer=None,
        dtype=None,
        **kwargs,
    ):
        if attention not in ATTENTIONS:
            raise ValueError(
                f"`attention` must be one of {', '.join(ATTENTIONS)}. Received "
                f"{attention!r}. Sums over whole chunks know no other structure; "
                "GAUAlphaBackbone does."
            )
        # === Layers ===
        initializer = keras.initializers.get(
            kernel_initializer or DepthScaledTruncatedNormal(num_layers, order=3)
        )
        rope = rotary_embeddings.get(rotary_embedding, dtype)
        shared = {
            "intermediate_dim": intermediate_dim,
            "key_dim": key_dim,
            "activation": activation,
            "rotary_embedding": rope,
            "use_bias": use_bias,
            "dropout": attention_dropout,
            "kernel_initializer": initializer,
            "dtype": dtype,
        }
        if chunk_size is None:
            units = [
                GatedAttentionUnit(normalizer="squared_relu", **shared, name=f"gau_{i}")
                for i in range(num_layers)
            ]
        else:
            units = [
                MixedChunkAttentionUnit(
                    chunk_size=chunk_size,
                    causal=attention == "causal",
                    **shared,
                    name=f"gau_{i}",
                )
                for i in range(num_layers)
            ]

        # === Functional model ===
        inputs = self.make_inputs(use_position_ids)
        positions = inputs.get("position_ids")
        x = self.embed(
            inputs, vocabulary_size, num_segments, hidden_dim, initializer, dtype
        )
        x = keras.layers.Dropout(dropout, dtype=dtype, name="embeddings_dropout")(x)
        x = RMSNorm(epsilon, dtype=dtype, name="embeddings_norm")(x)
        if chunk_size is None:
            mask = attention_mask.get(attention)(
                inputs["padding_mask"], inputs["segment_ids"]
            )
            masks = {"attention_mask": mask}
        else:
            masks = {"padding_mask": inputs["padding_mask"]}
        for i, unit in enumerate(units):
            residual = x
            x = unit(x, **masks, positions=positions)
            x = keras.layers.Dropout(dropout, dtype=dtype, name=f"gau_{i}_dropout")(x)
            x = RMSNorm(epsilon, dtype=dtype, name=f"gau_{i}_norm")(residual + x)

        # === Config ===
        config = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "intermediate_dim": intermediate_dim,
            "key_dim": key_dim,
            "chunk_size": chunk_size,
            "num_segments": num_segments,
            "activation": activations.serialize(activation),
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "attention": attention,
            "rotary_embedding": rotary_embeddings.serialize(rope),
            "use_bias": use_bias,
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
