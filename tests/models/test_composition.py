"""Every scheme works in every backbone, by name; what cannot work says why."""

import json
from functools import partial

import keras
import numpy as np
import pytest
from contract import to_numpy
from gradients import compiled
from keras import ops

from bert4keras3.layers import (
    EntropyInvariantSoftmax,
    GlobalPointer,
    LinearAttention,
    MixedChunkAttentionUnit,
    MixedChunkMultiHeadAttention,
    PositionBias,
    PositionWeighting,
    QueryKeyNorm,
    RotaryEmbedding,
    TransformerLayer,
    WindowMask,
)
from bert4keras3.layers.attention_bias import POSITION_BIASES
from bert4keras3.layers.attention_mask import ATTENTION_MASKS
from bert4keras3.layers.attention_normalizer import NORMALIZERS
from bert4keras3.layers.attention_schedule import ATTENTION_SCHEDULES, HWFA2
from bert4keras3.layers.position_sampler import POSITION_SAMPLERS
from bert4keras3.layers.position_weighting import POSITION_WEIGHTINGS
from bert4keras3.layers.query_key_norm import QUERY_KEY_NORMS
from bert4keras3.layers.rotary_embedding import ROTARY_EMBEDDINGS
from bert4keras3.models import (
    BertBackbone,
    FLASHBackbone,
    GAUAlphaBackbone,
    RoFormerBackbone,
    RoFormerV2Backbone,
)

BACKBONES = {
    "gau": lambda **options: GAUAlphaBackbone(30, 2, 16, 32, key_dim=8, **options),
    "v2": lambda **options: RoFormerV2Backbone(30, 2, 2, 16, 32, **options),
}
FAMILIES = {
    "attention": {**ATTENTION_MASKS, **ATTENTION_SCHEDULES},
    "normalizer": NORMALIZERS,
    "rotary_embedding": ROTARY_EMBEDDINGS,
    "position_bias": POSITION_BIASES,
    "position_weighting": POSITION_WEIGHTINGS,
    "query_key_norm": QUERY_KEY_NORMS,
    "position_sampler": POSITION_SAMPLERS,
}
CHOICES = [
    pytest.param(family, name, id=f"{family}={name}")
    for family, table in FAMILIES.items()
    for name in table
]
# What a scheme needs beside it.
NEEDS = {"xpos": {"attention": "causal"}}
SINGLE_HEAD_CANNOT = {"half_heads"}
TENSORFLOW = keras.backend.backend() == "tensorflow"
IDS = np.random.default_rng(0).integers(1, 30, (2, 11)).astype("int32")
IDS[1, 7:] = 0


def test_there_is_something_in_every_family():
    assert all(FAMILIES.values())
    assert len(CHOICES) > 30


# Elsewhere than on TensorFlow one architecture is enough: numbers and gradients of the
# schemes themselves are tested there layer by layer.
@pytest.mark.parametrize("kind", BACKBONES if TENSORFLOW else ["gau"])
@pytest.mark.parametrize(("family", "name"), CHOICES)
def test_every_scheme_by_name(kind, family, name):
    if kind == "gau" and name in SINGLE_HEAD_CANNOT:
        with pytest.raises(ValueError, match="head"):
            BACKBONES[kind](attention=name)
        return
    model = BACKBONES[kind](**{**NEEDS.get(name, {}), family: name})
    run = compiled(model)
    expected = to_numpy(run({"token_ids": IDS}))
    assert np.all(np.isfinite(expected))
    # Padding content and padded length change no real position.
    segments = np.zeros((2, 15), "int32")
    longer = np.full((2, 15), 29, "int32")
    longer[:, :11] = np.where(IDS == 0, 29, IDS)
    mask = np.pad((IDS != 0).astype("int32"), ((0, 0), (0, 4)))
    given = run({"token_ids": longer, "segment_ids": segments, "padding_mask": mask})
    real = IDS != 0
    np.testing.assert_allclose(to_numpy(given)[:, :11][real], expected[real], atol=2e-5)
    if not TENSORFLOW:
        return
    # The config, through JSON, builds the same model.
    again = type(model).from_config(json.loads(json.dumps(model.get_config())))
    again.set_weights(model.get_weights())
    after = to_numpy(compiled(again)({"token_ids": IDS}))
    np.testing.assert_array_equal(after, expected)


def test_schemes_stack():
    """Several families at once, in one model that trains under XLA."""
    model = RoFormerV2Backbone(
        30,
        4,
        2,
        16,
        32,
        attention="hwfa",
        rotary_embedding="leaky_rerope",
        position_bias="t5_causal",
        position_weighting="urpe",
        query_key_norm="key_norm",
        normalizer=EntropyInvariantSoftmax(64, 1),
    )
    on_xla = keras.backend.backend() != "torch"
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=on_xla)
    targets = np.random.normal(size=(2, 11, 16))
    losses = [model.train_on_batch({"token_ids": IDS}, targets) for _ in range(20)]
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_window_in_blocks_equals_the_mask(kind, tmp_path):
    model = BACKBONES[kind](attention=WindowMask(3))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    short = {"token_ids": IDS[:, :5]}  # computed whole
    for inputs in ({"token_ids": IDS}, short):
        np.testing.assert_array_equal(to_numpy(again(inputs)), to_numpy(model(inputs)))
    whole = to_numpy(model({"token_ids": IDS}))[0, :5]
    np.testing.assert_allclose(to_numpy(model(short))[0], whole, atol=1e-5)


def test_one_table_for_all_layers_or_one_in_each():
    shared = BACKBONES["v2"](position_bias="t5", position_weighting="urpe")
    assert len(shared.scheme_weights) == 2
    each = BACKBONES["v2"](position_bias="shaw")
    assert len(each.scheme_weights) == 4  # keys and values of two layers


def test_a_rotary_embedding_that_needs_a_causal_mask():
    class Growing(RotaryEmbedding):
        needs_causal_mask = True

    BACKBONES["gau"](rotary_embedding=Growing(), attention="causal")
    for attention in ("bidirectional", "prefix"):
        with pytest.raises(ValueError, match="Growing grows without bound.*causal"):
            BACKBONES["gau"](rotary_embedding=Growing(), attention=attention)


def test_xpos_is_refused_where_it_diverges():
    for attention in ("bidirectional", "prefix"):
        with pytest.raises(ValueError, match="XPOS grows without bound.*causal"):
            BACKBONES["gau"](rotary_embedding="xpos", attention=attention)


TRAINED = dict(
    rotary_embedding="exponential",
    position_bias="kerple_log",
    position_weighting="urpe",
)
OWNERS = {
    **{kind: partial(make, **TRAINED) for kind, make in BACKBONES.items()},
    "hwfa2": partial(
        BACKBONES["v2"], attention=HWFA2(2, full_rotary_embedding="leaky_rerope")
    ),
    "flash": partial(
        FLASHBackbone, 30, 2, 16, 32, 8, 4, rotary_embedding="exponential"
    ),
    "transformer": partial(TransformerLayer, 2, 16, **TRAINED),
    "pointer": partial(GlobalPointer, 2, 8, rotary_embedding="exponential"),
    "linear": partial(LinearAttention, 2, 8, rotary_embedding="exponential"),
    "chunks": partial(MixedChunkAttentionUnit, 16, 8, rotary_embedding="exponential"),
    "chunks of heads": partial(
        MixedChunkMultiHeadAttention, 2, 8, rotary_embedding="exponential"
    ),
}


@pytest.mark.parametrize(
    ("everywhere", "own"),
    [
        ("mixed_bfloat16", None),
        ("mixed_bfloat16", "float32"),
        ("float32", "bfloat16"),
    ],
)
@pytest.mark.parametrize("kind", OWNERS)
def test_schemes_follow_the_dtype_policy_of_their_owner(kind, everywhere, own):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(everywhere)
    try:
        owner = OWNERS[kind](dtype=own)
    finally:
        keras.config.set_dtype_policy(before)
    if not owner.built:
        owner.build((None, 5, 16))
    schemes = [
        layer
        for layer in owner._flatten_layers()
        if isinstance(layer, RotaryEmbedding | PositionBias | PositionWeighting)
    ]
    assert schemes
    for scheme in schemes:
        assert scheme.dtype_policy.name == (own or everywhere), scheme
        for weight in scheme.weights:
            wanted = "bfloat16" if own == "bfloat16" else "float32"
            assert keras.backend.standardize_dtype(weight.dtype) == wanted


def test_positions_from_two_sides_are_refused():
    with pytest.raises(ValueError, match="either sampled by the model or given"):
        BACKBONES["gau"](position_sampler="random_positions", use_position_ids=True)


def test_a_table_of_positions_has_an_end():
    with pytest.raises(ValueError, match="has 16 rows.*max_position=16"):
        BertBackbone(
            30, 1, 2, 8, 16, max_sequence_length=16, position_sampler="random_positions"
        )


def test_unknown_names_suggest_the_near_one():
    for family, name, near in (
        ("attention", "hfwa", "hwfa"),
        ("rotary_embedding", "yarm", "yarn"),
        ("position_bias", "shawn", "shaw"),
        ("position_weighting", "urp", "urpe"),
        ("query_key_norm", "keynorm", "key_norm"),
    ):
        with pytest.raises(ValueError, match=f"Did you mean '{near}'"):
            BACKBONES["gau"](**{family: name})


def test_a_toy_scheme_takes_one_class():
    """Each family, by an instance of a class written here and registered nowhere."""

    class Slower(RotaryEmbedding):
        def frequencies(self, dim):
            return super().frequencies(dim) / 2

    class Nearest(PositionBias):
        def bias(self, query, key_length, query_positions=None, key_positions=None):
            distances = ops.expand_dims(ops.arange(ops.shape(query)[-2]), 1)
            distances = distances - ops.expand_dims(ops.arange(key_length), 0)
            return -ops.cast(ops.abs(distances), "float32")

    class Half(PositionWeighting):
        def weigh(self, weights, query_positions=None, key_positions=None):
            return weights / 2

    class Signs(QueryKeyNorm):
        def __call__(self, query, key, num_keys):
            return ops.sign(query), key

    for make in (BACKBONES["gau"], BACKBONES["v2"], _small_roformer):
        plain = make()
        for weight in plain.weights:  # as large as trained ones
            weight.assign(np.random.normal(0, 1, weight.shape))
        for scheme in (
            {"rotary_embedding": Slower()},
            {"position_bias": Nearest()},
            {"position_weighting": Half()},
            {"query_key_norm": Signs()},
        ):
            model = make(**scheme)
            model.set_weights(plain.get_weights())
            inputs = {"token_ids": IDS[:1]}
            change = to_numpy(model(inputs)) - to_numpy(plain(inputs))
            assert np.abs(change).max() > 1e-3


def _small_roformer(**options):
    return RoFormerBackbone(30, 2, 2, 16, 32, **options)
