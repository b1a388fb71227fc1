"""Every layer fixture is read by some test, and none has gone missing."""

import ast
from pathlib import Path

import golden_layers
import pytest

TESTS = Path(__file__).parents[1]

# Start of a fixture's name -> the test that reads it; the longest start decides.
CLAIMS = {
    "crf_": "layers/test_conditional_random_field.py",
    "egp_": "layers/test_global_pointer.py",
    "ffn_": "layers/test_feed_forward.py",
    "fn_activations": "layers/test_feed_forward.py",
    "fn_attention_normalize": "layers/test_attention.py",
    "fn_piecewise_linear": "training/test_piecewise_linear.py",
    "fn_rotary": "layers/test_rotary_embedding.py",
    "fn_sinusoidal_embeddings": "layers/test_absolute_positions.py",
    "gap1d": "layers/test_pooling.py",
    "gau_": "layers/test_gated_attention_unit.py",
    "gmp1d": "layers/test_pooling.py",
    "gp_": "layers/test_global_pointer.py",
    "initializer_stddev": "layers/test_initializer.py",
    "ln_": "layers/test_normalization.py",
    "loss_multilabel_ce": "test_losses.py",
    "loss_sparse_multilabel_ce": "test_losses.py",
    "memm_": "layers/test_conditional_random_field.py",
    "mha_": "layers/test_multi_head_attention.py",
    "mha_t5": "layers/test_attention_bias.py",
    "mha_typical": "layers/test_attention_bias.py",
    "posemb_": "layers/test_absolute_positions.py",
    "relative_position": "layers/test_attention_bias.py",
    "rms_": "layers/test_normalization.py",
    "scale_offset": "layers/test_normalization.py",
    "sinusoidal_": "layers/test_absolute_positions.py",
    "t5_position_ids": "layers/test_attention_bias.py",
}
# How many fixtures each start has in our own folder: none may go missing unnoticed.
COUNTS = {
    "crf_": 2,
    "egp_": 5,
    "ffn_": 5,
    "fn_activations": 1,
    "fn_attention_normalize": 1,
    "fn_piecewise_linear": 1,
    "fn_rotary": 1,
    "fn_sinusoidal_embeddings": 1,
    "gap1d": 1,
    "gau_": 31,
    "gmp1d": 1,
    "gp_": 5,
    "initializer_stddev": 1,
    "ln_": 11,
    "loss_multilabel_ce": 1,
    "loss_sparse_multilabel_ce": 1,
    "memm_": 2,
    "mha_": 15,
    "mha_t5": 2,
    "mha_typical": 3,
    "posemb_": 4,
    "relative_position": 2,
    "rms_": 2,
    "scale_offset": 3,
    "sinusoidal_": 5,
    "t5_position_ids": 2,
}


def claim(name):
    """The longest known start of a fixture's name."""
    starts = [start for start in CLAIMS if name.startswith(start)]
    return max(starts, key=len, default=None)


def strings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_fixture_is_claimed():
    unclaimed = [name for name in golden_layers.file_names() if claim(name) is None]
    assert not unclaimed


def test_every_claim_has_a_fixture():
    claimed = {claim(name) for name in golden_layers.file_names()}
    assert claimed == set(CLAIMS)


@pytest.mark.parametrize("start", CLAIMS)
def test_the_module_that_claims_a_fixture_names_it(start):
    known = strings(TESTS / CLAIMS[start])
    assert any(text.removesuffix(".json") == start for text in known)


def test_every_index_entry_has_its_file():
    with_arrays = {
        path.stem for path in golden_layers.LAYERS.iterdir() if path.suffix == ".npz"
    }
    assert with_arrays == set(golden_layers.index())


@pytest.mark.skipif(
    golden_layers.GOLDEN != golden_layers.OURS, reason="another set of fixtures"
)
def test_our_fixtures_are_complete():
    found = [claim(name) for name in golden_layers.file_names()]
    assert {start: found.count(start) for start in CLAIMS} == COUNTS
