"""What is computed again in the backward pass is what was computed before."""

import functools

import keras
import numpy as np
import pytest
from contract import to_numpy

from bert4keras3.models import FLASHBackbone, GAUAlphaBackbone, RoFormerV2Backbone
from bert4keras3.tasks.masked_lm import MaskedLM

RNG = np.random.default_rng(0)
MAKERS = {
    "gau_alpha": lambda **options: GAUAlphaBackbone(
        30, 1, 16, 32, key_dim=8, dropout=0.3, attention_dropout=0.3, **options
    ),
    "roformer_v2": lambda **options: RoFormerV2Backbone(
        30, 1, 2, 16, 32, dropout=0.3, attention_dropout=0.3, **options
    ),
}
IDS = RNG.integers(5, 30, (4, 12)).astype("int32")
IDS[:, 9:] = 0


@functools.cache
def trained(kind, part, **options):
    """Weights after three steps, and the losses, from one set of weights and seeds."""
    keras.utils.set_random_seed(1)
    model = MaskedLM(MAKERS[kind](**options), None)
    if part is not None:
        model.backbone.enable_recompute(part)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() != "torch",
    )
    losses = [model.train_on_batch(IDS, IDS) for _ in range(3)]
    return losses, [to_numpy(weight) for weight in model.trainable_variables]


@pytest.mark.parametrize("part", ["attention", "layer"])
@pytest.mark.parametrize("kind", MAKERS)
def test_training_is_the_same(kind, part):
    losses, weights = trained(kind, None)
    again, others = trained(kind, part)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(other, weight, atol=2e-6)


def test_position_schemes_with_weights_are_trained():
    """Weights used within a part have gradients."""
    options = dict(position_bias="t5", rotary_embedding=None)
    losses, weights = trained("roformer_v2", None, **options)
    again, others = trained("roformer_v2", "layer", **options)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(other, weight, atol=2e-6)


def test_it_can_be_turned_off_and_is_not_saved():
    model = MAKERS["gau_alpha"]()
    model.enable_recompute("layer")
    assert model.get_layer("gau_0").recompute == "layer"
    assert type(model).from_config(model.get_config()).get_layer("gau_0").recompute is (
        None
    )
    model.enable_recompute(None)
    assert model.get_layer("gau_0").recompute is None


def test_unknown_parts_and_backbones_without_are_refused():
    with pytest.raises(ValueError, match="attention, layer, or None. Received 'all'"):
        MAKERS["gau_alpha"]().enable_recompute("all")
    flash = FLASHBackbone(30, 2, 16, 32, key_dim=8, chunk_size=4)
    with pytest.raises(ValueError, match="no layers that can compute again"):
        flash.enable_recompute("layer")
