"""The models in the box: their size and files, and that they have learnt Chinese.

`bundled_sentences.txt` was written for this test, so no corpus holds it. Each
character, or pair of characters, is masked in turn; the rest of its sentence is seen.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from zoo.checkpoints import open_checkpoint

NAMES = ["gau-alpha-tiny", "roformer-v2-tiny"]
BUNDLED = Path(zoo.__file__).parent / "bundled"
SENTENCES = Path(__file__).with_name("bundled_sentences.txt")
MEGABYTE = 1_000_000
# By the number of neighbouring characters masked at once. COUNTED is what the better
# bigram (`CountModel`) gets right with counts of the same training text.
COUNTED = {1: 0.233, 2: 0.110}
LEAST = {1: 0.57, 2: 0.30}


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return zoo.load(request.param, task="masked_lm", preprocessor=None)


def blanks(width):
    """Token ids with `width` neighbouring masks, where they are, and what was there."""
    tokenizer = zoo.load_tokenizer("gau-alpha-tiny")
    rows, positions, targets = [], [], []
    for sentence in SENTENCES.read_text(encoding="utf-8").splitlines():
        encoding = tokenizer.encode(sentence)
        for first in range(len(encoding.tokens) - width):
            at = range(first, first + width)
            if all("\u4e00" <= encoding.tokens[i] <= "\u9fff" for i in at):
                row = list(encoding.token_ids)
                row[first : first + width] = [tokenizer.mask_token_id] * width
                rows.append(row + [0] * (32 - len(row)))
                positions.append(at)
                targets.append([encoding.token_ids[i] for i in at])
    return np.array(rows), np.array(positions), np.array(targets)


def logits(model, token_ids, positions):
    inputs = {"token_ids": token_ids, "mask_positions": positions}
    return keras.ops.convert_to_numpy(model(inputs))


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_into_16_megabytes(name):
    files = [path for path in (BUNDLED / name).rglob("*") if path.is_file()]
    assert {"bert_config.json", "vocab.txt", "README.md"} <= {f.name for f in files}
    assert sum(path.stat().st_size for path in files) <= 16 * MEGABYTE


def test_it_has_between_3_and_8_million_parameters(model):
    assert 3e6 <= model.backbone.count_params() <= 8e6


def test_they_have_as_many_parameters():
    sizes = [zoo.load(name).count_params() for name in NAMES]
    assert abs(sizes[0] / sizes[1] - 1) < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_stored_in_float16(name):
    with open_checkpoint(BUNDLED / name) as checkpoint:
        assert checkpoint.variables
        assert {info.dtype.name for info in checkpoint.variables.values()} == {
            "float16"
        }


@pytest.mark.parametrize("width", [1, 2])
def test_it_fills_blanks_far_better_than_counting(model, width):
    token_ids, positions, targets = blanks(width)
    assert targets.size > 700
    accuracy = (logits(model, token_ids, positions).argmax(-1) == targets).mean()
    assert LEAST[width] >= 2.2 * COUNTED[width]
    assert accuracy >= LEAST[width]


def test_it_reads_the_context(model):
    """Without its sentence a blank is a guess: the score comes from the context."""
    token_ids, positions, targets = blanks(1)
    mask = zoo.load_tokenizer("gau-alpha-tiny").mask_token_id
    blind = np.where(token_ids > mask, mask, token_ids)
    accuracy = (logits(model, blind, positions).argmax(-1) == targets).mean()
    assert accuracy < 0.1


def test_padding_does_not_change_the_answer(model):
    token_ids, positions, _ = (part[:50] for part in blanks(1))
    longer = np.pad(token_ids, ((0, 0), (0, 16)))
    np.testing.assert_allclose(
        logits(model, token_ids, positions), logits(model, longer, positions), atol=1e-3
    )
