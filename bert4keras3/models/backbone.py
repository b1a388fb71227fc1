"""Base of the backbones: inputs, config round trip, checks of ids, LoRA."""

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.attention import DotProductAttention
from bert4keras3.layers.embedding import Embedding, ReversibleEmbedding
from bert4keras3.layers.initializer import fresh

LORA_LAYERS = ("query_dense", "value_dense")
# What `enable_recompute` takes, beside None.
PARTS = ("attention", "layer")


class Backbone(keras.Model):
    """A functional Keras model from token ids to hidden states.

    Inputs are a dict of `token_ids`, `segment_ids` and `padding_mask`, each `(B, T)`;
    `padding_mask` is true or 1 where there is a token. A model called with `token_ids`
    alone takes zero segments and treats id 0 as padding. With `use_position_ids=True`
    the dict also holds `position_ids`, `(B, T)`, integer or fractional.

    The output is `(B, T, hidden_dim)`, or, for a model with a pooler, a dict of
    `hidden_states` and `pooled` `(B, hidden_dim)`.

    A subclass builds its layers, calls `super().__init__(inputs, outputs, config)` with
    all its arguments in `config`, and sets the class attributes below.
    """

    # Layout name -> table of (ours, released, change); see `weight_map`.
    weight_maps: dict = {}
    # Patterns (fnmatch) of released tensors that are knowingly not used.
    dropped_weights: tuple = ()
    # Layers that LoRA adapts by default: the last part of their names.
    lora_layers: tuple = LORA_LAYERS
    # Layers whose outputs (heads and inner features), or whose inputs, which are summed
    # over, `get_layout_map` splits over devices.
    split_outputs: tuple = (
        "query_dense",
        "key_dense",
        "value_dense",
        "gate_dense",
        "intermediate_dense",
    )
    split_inputs: tuple = ("output_dense",)
    # Whether pairs of texts are fed with zero segment ids, as the authors did.
    zero_segments = False

    def __init__(self, inputs, outputs, config, dtype=None, name=None, trainable=True):
        # Keras would take any other argument, and forget it.
        super().__init__(inputs=inputs, outputs=outputs, name=name, trainable=trainable)
        # Position ids must not be rounded to the compute dtype on the way in.
        self.autocast = False
        self._dtype_argument = dtype
        self._init_config = dict(config)
        for name, value in config.items():
            if not hasattr(self, name):
                setattr(self, name, value)

    @staticmethod
    def make_inputs(use_position_ids=False):
        """The symbolic inputs of a backbone."""
        inputs = {
            name: keras.Input((None,), dtype="int32", name=name)
            for name in ("token_ids", "segment_ids", "padding_mask")
        }
        if use_position_ids:
            inputs["position_ids"] = keras.Input(
                (None,), dtype="float32", name="position_ids"
            )
        return inputs

    @staticmethod
    def embed(inputs, vocabulary_size, num_segments, embedding_dim, initializer, dtype):
        """`E_token + E_segment`, `(B, T, embedding_dim)`; every backbone begins so."""
        token_embedding = ReversibleEmbedding(
            vocabulary_size,
            embedding_dim,
            embeddings_initializer=fresh(initializer),
            dtype=dtype,
            name="token_embedding",
        )
        segment_embedding = Embedding(
            num_segments,
            embedding_dim,
            embeddings_initializer=fresh(initializer),
            dtype=dtype,
            name="segment_embedding",
        )
        return token_embedding(inputs["token_ids"]) + segment_embedding(
            inputs["segment_ids"]
        )

    @classmethod
    def get_layout_map(
        cls,
        device_mesh,
        model_parallel_dim_name="model",
        data_parallel_dim_name="batch",
        split_vocabulary=True,
    ):
        """Return which weights to split over which devices, for model parallelism.

        Projections into heads or inner features are split by their outputs, those back
        by their inputs, and the token embedding by its tokens, so that a layer needs
        one all-reduce forward and one backward (https://arxiv.org/abs/1909.08053). All
        else lies on every device. Arguments are those of KerasHub's backbones.

        Args:
            device_mesh: `keras.distribution.DeviceMesh` with both axes.
            model_parallel_dim_name: the axis that weights are split over.
            data_parallel_dim_name: the axis that batches are split over.
            split_vocabulary: `False` for a vocabulary whose size the axis does not
                divide.

        Returns:
            `keras.distribution.LayoutMap` for `keras.distribution.ModelParallel`.

        Raises:
            ValueError: the mesh has no such axis.
        """
        axes = device_mesh.axis_names
        for name in (model_parallel_dim_name, data_parallel_dim_name):
            if name not in axes:
                raise ValueError(f"The mesh has the axes {axes}, but no {name!r}.")
        split = model_parallel_dim_name
        outputs, inputs = "|".join(cls.split_outputs), "|".join(cls.split_inputs)
        layout = keras.distribution.LayoutMap(device_mesh)
        layout[rf".*({outputs})(_\d+)?/kernel"] = (None, split)
        layout[rf".*({outputs})(_\d+)?/bias"] = (split,)
        layout[rf".*({outputs})(_\d+)?/lora_kernel_b"] = (None, split)
        layout[rf".*({inputs})(_\d+)?/kernel"] = (split, None)
        layout[rf".*({inputs})(_\d+)?/lora_kernel_a"] = (split, None)
        if split_vocabulary:
            layout[r".*token_embedding/embeddings"] = (split, None)
        return layout

    @property
    def token_embedding(self):
        return self.get_layer("token_embedding")

    @property
    def scheme_weights(self):
        """Paths of the weights of position schemes, which no release holds.

        A model that is loaded with such a scheme keeps their initial values.
        """
        return frozenset(
            weight.path
            for layer in self._flatten_layers(include_self=False)
            if isinstance(layer, DotProductAttention)
            for scheme in layer.schemes
            for weight in scheme.weights
        )

    def masked_lm_head_config(self):
        """Arguments of `MaskedLMHead` that fit this architecture."""
        raise NotImplementedError(f"{type(self).__name__} has no masked-LM head.")

    def __call__(self, inputs, *args, **kwargs):
        return super().__call__(self.complete_inputs(inputs), *args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        # JAX's training and prediction steps come here without `__call__`. Keras reads
        # the names of the arguments: without `training` no dropout would ever act.
        return super().call(self.complete_inputs(inputs), training=training, mask=mask)

    def export(
        self,
        filepath,
        format="tf_saved_model",
        tokenizer=None,
        pairs=False,
        warm_up=(),
        **kwargs,
    ):
        """Write the backbone for inference by other programs.

        As a SavedModel it takes raw text if it is given a `tokenizer`; see
        `export.saved_model.export_saved_model`. Other formats of `keras.Model.export`
        take token ids.
        """
        if format != "tf_saved_model":
            return super().export(filepath, format=format, **kwargs)
        from bert4keras3.export.saved_model import export_saved_model

        export_saved_model(self, filepath, tokenizer, pairs, warm_up)

    def complete_inputs(self, inputs):
        """Fill in `segment_ids` and `padding_mask`, and check concrete ids.

        Raises:
            ValueError: no `token_ids`, an unknown key, or an id out of range.
            TypeError: ids that are not integers.
        """
        if not isinstance(inputs, dict):
            inputs = {"token_ids": inputs}
        if "token_ids" not in inputs:
            raise ValueError(
                "The model takes a dict with at least 'token_ids'. Received the keys "
                f"{sorted(inputs)}."
            )
        known = {"token_ids", "segment_ids", "padding_mask", "position_ids"}
        if unknown := set(inputs) - known:
            raise ValueError(
                f"Unknown inputs {sorted(unknown)}. The model takes {sorted(known)}."
            )
        inputs = dict(inputs)
        self.check_batch(inputs)
        token_ids = inputs["token_ids"] = ops.convert_to_tensor(inputs["token_ids"])
        if "segment_ids" not in inputs:
            inputs["segment_ids"] = ops.zeros_like(token_ids, dtype="int32")
        else:
            inputs["segment_ids"] = ops.convert_to_tensor(inputs["segment_ids"])
        if "padding_mask" not in inputs:
            inputs["padding_mask"] = ops.cast(ops.not_equal(token_ids, 0), "int32")
        else:
            mask = ops.convert_to_tensor(inputs["padding_mask"])
            inputs["padding_mask"] = ops.cast(mask, "int32")
        if self.use_position_ids:
            if "position_ids" not in inputs:
                raise ValueError(
                    "This model was built with use_position_ids=True: pass "
                    "'position_ids', shape (B, T)."
                )
            positions = ops.convert_to_tensor(inputs["position_ids"])
            inputs["position_ids"] = ops.cast(positions, "float32")
        elif "position_ids" in inputs:
            raise ValueError(
                "Received 'position_ids', but the model counts positions itself. Build "
                "it with use_position_ids=True to pass them."
            )
        return inputs

    @staticmethod
    def check_ids(name, ids, size):
        """Refuse ids that an embedding lookup would silently clamp or turn into NaN.

        Only values at hand are checked: arrays and lists. Tensors inside a compiled
        step cannot be.
        """
        if not isinstance(ids, np.ndarray | list | tuple):
            return
        ids = np.asarray(ids)
        if not np.issubdtype(ids.dtype, np.integer):
            raise TypeError(
                f"`{name}` must hold integers. Received dtype {ids.dtype}. "
                "Encode texts with the model's tokenizer."
            )
        if ids.size and (ids.min() < 0 or ids.max() >= size):
            bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
            raise ValueError(
                f"`{name}` must lie in [0, {size}). Received {bad}. Was another "
                "vocabulary used for encoding?"
            )

    def predict(self, x, *args, **kwargs):
        self.check_batch(x)
        return super().predict(x, *args, **kwargs)

    def fit(self, x=None, *args, **kwargs):
        self.check_batch(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        self.check_batch(x)
        return super().evaluate(x, *args, **kwargs)

    def check_batch(self, x):
        """Check the ids of arrays that are about to be fed in batches."""
        if isinstance(x, dict):
            if "token_ids" in x:
                self.check_ids("token_ids", x["token_ids"], self.vocabulary_size)
            if "segment_ids" in x:
                self.check_ids("segment_ids", x["segment_ids"], self.num_segments)

    def enable_recompute(self, part):
        """Train in less memory, by computing a part of each layer twice.

        The results are the same. It is no part of the configuration: call it before
        the first step of each run.

        Args:
            part: `"attention"` keeps the projections, and computes the attention
                weights and what they are multiplied with again, which costs a few
                percent of a step; `"layer"` keeps the inputs of layers alone, and
                costs a forward pass; `None` keeps all.

        Raises:
            ValueError: an unknown part, or a backbone without such layers.
        """
        if part is not None and part not in PARTS:
            raise ValueError(
                f"`part` is one of {', '.join(PARTS)}, or None. Received {part!r}."
            )
        layers = [
            layer
            for layer in self._flatten_layers(include_self=False)
            if hasattr(layer, "recomputable")
        ]
        if part and not any(part in layer.recomputable for layer in layers):
            raise ValueError(
                f"{type(self).__name__} has no layers that can compute again: its "
                "attention forms no matrix of all pairs."
            )
        for layer in layers:
            layer.recompute = part if part in layer.recomputable else None

    def enable_lora(self, rank, layers=None):
        """Freeze the model and train low-rank additions to some of its layers.

        Afterwards exactly the two LoRA matrices of every adapted layer are trainable.
        Source: https://arxiv.org/abs/2106.09685.

        Args:
            rank: rank of the additions.
            layers: names of the layers to adapt, by default `lora_layers`; a layer
                matches by its own name, for example `"query_dense"`.

        Raises:
            ValueError: a name matches no layer, or `rank` is not positive.
        """
        if rank < 1:
            raise ValueError(f"`rank` must be at least 1. Received {rank}.")
        wanted = tuple(layers or self.lora_layers)
        found = [
            layer
            for layer in self._flatten_layers(include_self=False)
            if layer.name in wanted and hasattr(layer, "enable_lora")
        ]
        if missing := set(wanted) - {layer.name for layer in found}:
            names = sorted(
                {
                    layer.name
                    for layer in self._flatten_layers(include_self=False)
                    if hasattr(layer, "enable_lora")
                }
            )
            raise ValueError(
                f"No layer is called {sorted(missing)}. LoRA can adapt: {names}."
            )
        for variable in self.variables:
            variable.trainable = False
        for layer in found:
            layer.enable_lora(rank)

    def get_config(self):
        config = {"name": self.name, "trainable": self.trainable}
        if self._dtype_argument is not None:
            policy = keras.dtype_policies.get(self._dtype_argument)
            config["dtype"] = keras.dtype_policies.serialize(policy)
        return {**config, **self._init_config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Keras's own would build a plain functional model from a graph config.
        return cls(**config)
