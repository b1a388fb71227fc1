"""A backbone of ours as a KerasHub backbone, over the same layers."""

import keras
import keras_hub

from bert4keras3.models.backbone import Backbone as OurBackbone


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class Backbone(keras_hub.models.Backbone):
    """Any backbone of `bert4keras3.models` as a `keras_hub.models.Backbone`.

    It computes what the model computes, with the model's own layers: a weight that
    changes in one changes in the other. One class serves all architectures; the preset
    holds the model's class and arguments.

    Inputs are `token_ids`, `segment_ids` and `padding_mask`, each `(B, T)`. The last
    two may be left out: zeros, and `token_ids != 0`.

    Args:
        model: a backbone of `bert4keras3.models`.
        name: name of the Keras model, by default that of `model`.
        trainable: whether its variables are trained.

    Returns:
        `(B, T, hidden_dim)`, or what the model gives if it has a pooler.

    Raises:
        TypeError: `model` is no backbone of ours.

    Example:

    >>> from bert4keras3.models import RoFormerV2Backbone
    >>> backbone = Backbone(RoFormerV2Backbone(100, 2, 4, 32, 64))
    >>> tuple(backbone({"token_ids": np.array([[5, 6, 7, 0]])}).shape)
    (1, 4, 32)
    >>> backbone.save_to_preset("my_preset")
    >>> type(keras_hub.models.Backbone.from_preset("my_preset").model).__name__
    'RoFormerV2Backbone'
    """

    def __init__(self, model, name=None, trainable=True):
        if not isinstance(model, OurBackbone):
            raise TypeError(
                "`model` must be a backbone of bert4keras3.models, such as "
                f"RoFormerV2Backbone(...). Received: {type(model).__name__}. Use "
                "bert4keras3.hub.wrap for tasks."
            )
        dtype = keras.dtype_policies.get(model.get_config().get("dtype"))
        super().__init__(
            inputs=model.input,
            outputs=model.output,
            dtype=dtype,
            name=name or model.name,
            trainable=trainable,
        )
        self.model = model
        # Position ids must not be rounded to the compute dtype on the way in.
        self.autocast = False
        self.vocabulary_size = model.vocabulary_size
        self.num_layers = model.num_layers
        self.hidden_dim = model.hidden_dim
        self.intermediate_dim = model.intermediate_dim

    @property
    def token_embedding(self):
        return self.model.token_embedding

    def __call__(self, inputs, *args, **kwargs):
        return super().__call__(self.model.complete_inputs(inputs), *args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        # JAX's training and prediction steps come here without `__call__`.
        inputs = self.model.complete_inputs(inputs)
        return super().call(inputs, training=training, mask=mask)

    def default_lora_layer_names(self):
        return list(self.model.lora_layers)

    def enable_lora(self, rank, target_layer_names=None):
        """Freeze the model and train low-rank additions to some of its layers.

        As KerasHub's, but nothing beside the two matrices of each adapted layer is
        trained (KerasHub trains their biases too), and a name that no layer has is an
        error (KerasHub then trains nothing).

        Args:
            rank: rank of the additions.
            target_layer_names: names of layers, by default those of the architecture.

        Raises:
            ValueError: a name matches no layer, or `rank` is not positive.
        """
        if rank < 1:
            raise ValueError(f"`rank` must be at least 1. Received {rank}.")
        wanted = list(target_layer_names or self.default_lora_layer_names())
        adaptable = {
            layer.name
            for layer in self._flatten_layers(include_self=False)
            if hasattr(layer, "enable_lora")
        }
        if missing := set(wanted) - adaptable:
            raise ValueError(
                f"No layer is called {sorted(missing)}. LoRA can adapt: "
                f"{sorted(adaptable)}."
            )
        super().enable_lora(rank, wanted)
        for variable in self.trainable_variables:
            variable.trainable = variable.name.startswith("lora_")

    def quantize(self, mode=None, config=None, filters=None, **kwargs):
        """`keras.Model.quantize`, silent about layers that cannot be quantized.

        Args:
            mode, config, **kwargs: as in Keras.
            filters: as in Keras; by default all layers that can be quantized.
        """
        filters = filters or _can_be_quantized
        super().quantize(mode, config=config, filters=filters, **kwargs)

    def get_config(self):
        config = super().get_config()
        model = keras.saving.serialize_keras_object(self.model)
        model["config"].pop("dtype", None)
        if "DTypePolicyMap" in config["dtype"]["class_name"]:
            # Of a quantized model; KerasHub's loader of backbones drops its own.
            model["config"]["dtype"] = config["dtype"]
        return {**config, "model": model}

    @classmethod
    def from_config(cls, config):
        """Build the model again; unknown keys are arguments of the architecture."""
        config = dict(config)
        own = {key: config.pop(key) for key in ("name", "trainable") if key in config}
        model = dict(config.pop("model"))
        dtype = _merge_dtypes(model["config"].get("dtype"), config.pop("dtype", None))
        model["config"] = {**model["config"], **config, "dtype": dtype}
        return cls(keras.saving.deserialize_keras_object(model), **own)

    def unwrap(self):
        """The backbone of `bert4keras3.models`, with the same layers."""
        return self.model


def _merge_dtypes(quantized, wanted):
    """The dtypes of a quantized model's layers, or `None`, and the one that is wanted.

    Layers that are quantized stay so; a wanted float dtype takes the place of theirs.
    """
    if quantized is None or wanted is None:
        return quantized or wanted
    wanted = keras.dtype_policies.get(wanted)
    if isinstance(wanted, keras.dtype_policies.DTypePolicyMap):
        return wanted
    merged = keras.dtype_policies.DTypePolicyMap(default_policy=wanted)
    for path, policy in keras.dtype_policies.get(quantized).items():
        mode = policy.name.partition("_from_")[0]
        merged[path] = keras.dtype_policies.get(f"{mode}_from_{wanted.name}")
    return merged


def _can_be_quantized(layer):
    return type(layer).quantize is not keras.Layer.quantize
