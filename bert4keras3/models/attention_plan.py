"""The attention of every layer of a backbone, from the backbone's arguments."""

from bert4keras3.layers import attention_bias as position_biases
from bert4keras3.layers import attention_normalizer, attention_schedule
from bert4keras3.layers import position_sampler as position_samplers
from bert4keras3.layers import position_weighting as position_weightings
from bert4keras3.layers import query_key_norm as query_key_norms
from bert4keras3.layers import rotary_embedding as rotary_embeddings
from bert4keras3.layers.attention_mask import LocalMask
from bert4keras3.layers.structural_masks import BidirectionalMask


class AttentionPlan:
    """Masks, positions and normalizer of each layer, checked against each other.

    Backbones hand their arguments over and ask for what each layer is built and called
    with. A scheme with weights that says `shared_by_layers` is one for the whole model,
    as its paper has it; of another, every layer has its own.

    Args:
        num_layers, num_heads: of the backbone.
        attention: mask or schedule, see `attention_schedule`.
        normalizer, rotary_embedding, position_bias: names, configs, instances or
            `None`, see the modules of these names.
        position_weighting, query_key_norm, position_sampler: likewise.
        use_position_ids: whether the caller brings the positions.
        dtype: dtype policy of schemes that are made from a name.

    Raises:
        ValueError: parts that cannot work together; the text says why.
    """

    def __init__(
        self,
        num_layers,
        num_heads,
        attention="bidirectional",
        normalizer="softmax",
        rotary_embedding=None,
        position_bias=None,
        position_weighting=None,
        query_key_norm=None,
        position_sampler=None,
        use_position_ids=False,
        dtype=None,
    ):
        self.num_layers = num_layers
        self.schedule = attention_schedule.get(attention)
        self.normalizer = attention_normalizer.get(normalizer)
        self.rotary_embedding = rotary_embeddings.get(rotary_embedding, dtype)
        self.position_bias = position_biases.get(position_bias, dtype)
        self.position_weighting = position_weightings.get(position_weighting, dtype)
        self.query_key_norm = query_key_norms.get(query_key_norm)
        self.position_sampler = position_samplers.get(position_sampler)
        # A schedule gives layers of the same mask the same instance; so do we.
        by_instance = {}
        self.masks = []
        for layer in range(num_layers):
            mask = self.schedule.mask(layer, num_layers)
            if mask not in by_instance:
                by_instance[mask] = mask.for_heads(num_heads)
            self.masks.append(by_instance[mask])
        self.rotary_embeddings = [
            self.schedule.rotary_embedding(
                layer, num_layers, _for_layer(self.rotary_embedding, layer)
            )
            for layer in range(num_layers)
        ]
        if self.position_sampler is not None and use_position_ids:
            raise ValueError(
                "Positions are either sampled by the model or given to it: leave out "
                "`position_sampler` or `use_position_ids`."
            )
        for layer in range(num_layers):
            self._check(layer)

    def _check(self, layer):
        rotary_embedding, mask = self.rotary_embeddings[layer], self.masks[layer]
        if rotary_embedding is None or mask.is_causal:
            return
        if rotary_embedding.needs_causal_mask:
            raise ValueError(
                f"{type(rotary_embedding).__name__} grows without bound for keys after "
                "the query, so it works under a causal mask alone. Received "
                f"{type(mask).__name__} in layer {layer}. Build the model with "
                'attention="causal", or take another rotary embedding.'
            )

    def layer_arguments(self, layer):
        """What the attention of a layer is built with."""
        mask = self.masks[layer]
        return {
            "normalizer": self.schedule.normalizer(
                layer, self.num_layers, self.normalizer
            ),
            "rotary_embedding": self.rotary_embeddings[layer],
            "position_bias": _for_layer(self.position_bias, layer),
            "position_weighting": _for_layer(self.position_weighting, layer),
            "query_key_norm": self.query_key_norm,
            "window": mask if isinstance(mask, LocalMask) else None,
        }

    def call_arguments(self, inputs):
        """What each layer is called with: a list of keyword arguments.

        Args:
            inputs: the symbolic inputs of the backbone by name.
        """
        padding_mask, segment_ids = inputs["padding_mask"], inputs["segment_ids"]
        # A layer with a window knows it; what is left is the padding.
        padding_alone = BidirectionalMask()
        computed = {}
        positions = inputs.get("position_ids")
        arguments = []
        for layer, mask in enumerate(self.masks):
            if isinstance(mask, LocalMask):
                mask = padding_alone
            if mask not in computed:
                computed[mask] = mask(padding_mask, segment_ids)
            sampler = self.position_sampler
            if sampler is not None and (layer == 0 or sampler.per_layer):
                positions = sampler(padding_mask)
            arguments.append({"attention_mask": computed[mask], "positions": positions})
        return arguments

    def get_config(self):
        """The arguments that a backbone stores, in a form that this class reads."""
        return {
            "attention": attention_schedule.serialize(self.schedule),
            "normalizer": attention_normalizer.serialize(self.normalizer),
            "rotary_embedding": rotary_embeddings.serialize(self.rotary_embedding),
            "position_bias": position_biases.serialize(self.position_bias),
            "position_weighting": position_weightings.serialize(
                self.position_weighting
            ),
            "query_key_norm": query_key_norms.serialize(self.query_key_norm),
            "position_sampler": position_samplers.serialize(self.position_sampler),
        }


def _for_layer(scheme, layer):
    """The scheme itself where layers share it, else a copy for each but the first."""
    if scheme is None or scheme.shared_by_layers or layer == 0:
        return scheme
    return type(scheme).from_config(scheme.get_config())
