"""Documents packed into one row are read as if each had a row of its own."""

import numpy as np
import pytest
from contract import to_numpy
from gradients import compiled

from bert4keras3.models import GAUAlphaBackbone, RoFormerBackbone, RoFormerV2Backbone

RNG = np.random.default_rng(0)
LENGTHS = (5, 9, 4)
DOCUMENTS = [RNG.integers(1, 30, length) for length in LENGTHS]
MAKERS = {
    "gau_alpha": lambda **options: GAUAlphaBackbone(
        30, 2, 16, 32, key_dim=8, **options
    ),
    "roformer": lambda **options: RoFormerBackbone(30, 2, 2, 16, 32, **options),
    "roformer_v2": lambda **options: RoFormerV2Backbone(30, 2, 2, 16, 32, **options),
}


def packed():
    """A row of all documents with two places of padding, and their numbers."""
    token_ids = np.concatenate([*DOCUMENTS, [0, 0]])[None].astype("int32")
    numbers = np.repeat(np.arange(1, 4), LENGTHS)
    return token_ids, np.concatenate([numbers, [0, 0]])[None].astype("int32")


@pytest.mark.parametrize(
    "masks", ["bidirectional documents", "causal causal_documents"]
)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_packed_row_equals_rows_of_their_own(kind, masks):
    alone, together = masks.split()
    single, whole = (MAKERS[kind](attention=name) for name in (alone, together))
    for weight in single.weights:
        weight.assign(RNG.normal(0, 0.3, weight.shape))
    whole.set_weights(single.get_weights())
    token_ids, numbers = packed()
    zeros = np.zeros_like(token_ids)
    inputs = dict(token_ids=token_ids, segment_ids=zeros, padding_mask=numbers)
    given = to_numpy(compiled(whole)(inputs))
    start = 0
    for document in DOCUMENTS:
        row = document[None].astype("int32")
        stop = start + len(document)
        expected = to_numpy(compiled(single)({"token_ids": row}))
        np.testing.assert_allclose(given[:, start:stop], expected, atol=2e-5)
        start = stop
    # Without the mask the first document would see the second.
    mixed = dict(inputs, padding_mask=(numbers > 0).astype("int32"))
    assert np.abs(to_numpy(compiled(whole)(mixed)) - given)[0, 5:18].max() > 1e-3


def test_a_packed_model_is_saved_with_its_mask():
    model = MAKERS["gau_alpha"](attention="documents")
    again = type(model).from_config(model.get_config())
    assert again.get_config()["attention"] == "documents"
