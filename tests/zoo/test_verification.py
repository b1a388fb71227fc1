"""`verify` finds each kind of trouble and names it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from zoo.checkpoints import open_checkpoint, write_tf1
from zoo.checksums import record_checksums
from zoo.verification import verify

MODELS = Path(__file__).parents[1] / "golden" / "models"


@pytest.fixture
def folder(tmp_path):
    """A released folder that may be damaged."""
    target = tmp_path / "released"
    target.mkdir()
    for name in (
        "bert_config.json",
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
        "vocab.txt",
    ):
        shutil.copy(MODELS / "gau_alpha" / name, target / name)
    return target


def rewrite(folder, change):
    """Write the checkpoint again with some tensors changed."""
    prefix = folder / "bert_model.ckpt"
    with open_checkpoint(folder) as checkpoint:
        tensors = dict(checkpoint.items())
    for path in folder.glob("bert_model.ckpt*"):
        path.unlink()
    change(tensors)
    write_tf1(prefix, tensors)


def failures(report):
    assert report.checks
    return {check.name: check.finding for check in report.checks if not check.passed}


def test_a_sound_folder(folder):
    report = verify(folder)
    assert report.passed and not failures(report)
    assert report.format == "tf1"
    assert report.architecture == "gau_alpha (tf1 names)"
    with open_checkpoint(folder) as checkpoint:
        sizes = [info.size for info in checkpoint.variables.values()]
    assert report.parameters == sum(sizes)
    assert sum(group.count for group in report.variables) == len(sizes)
    names = {group.name: group for group in report.variables}
    kernel = names["GAU_alpha/encoder/layer_{}/gau/i_dense/kernel"]
    assert kernel.count == 2 and kernel.info.shape == (64, 288)
    assert [name for name, _, _ in report.files] == [
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
        "vocab.txt",
    ]


def test_a_mirror_folder():
    report = verify(MODELS / "gau_alpha" / "mirror")
    assert report.passed, failures(report)
    assert report.format == "torch"
    assert report.architecture == "gau_alpha (transformers names)"


def test_a_flipped_byte_is_found_by_the_stored_checksum(folder):
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[1000] ^= 1
    data.write_bytes(content)
    assert "stored checksums" in failures(verify(folder))


def test_a_changed_file_is_found_by_the_recorded_checksum(folder):
    record_checksums(folder)
    assert verify(folder).passed
    with open(folder / "vocab.txt", "a", encoding="utf-8") as file:
        file.write("more\n")
    report = verify(folder)
    assert "vocab.txt" in failures(report)["recorded checksums"]


def test_a_truncated_file(folder):
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])
    assert "checkpoint" in failures(verify(folder))


def test_a_number_that_is_not_finite(folder):
    def spoil(tensors):
        tensors["bert/embeddings/word_embeddings"][7, 3] = np.nan

    rewrite(folder, spoil)
    found = failures(verify(folder))
    assert "bert/embeddings/word_embeddings holds 1 number" in found["numbers"]


def test_a_missing_and_an_unknown_variable(folder):
    def spoil(tensors):
        name = "GAU_alpha/encoder/layer_1/gau/o_dense/kernel"
        tensors["mystery/kernel"] = tensors.pop(name)

    rewrite(folder, spoil)
    finding = failures(verify(folder))["variables"]
    assert "- GAU_alpha/encoder/layer_1/gau/o_dense/kernel" in finding
    assert "+ mystery/kernel" in finding


def test_a_vocabulary_of_another_size(folder):
    with open(folder / "vocab.txt", "a", encoding="utf-8") as file:
        file.write("more\n")
    finding = failures(verify(folder))["model"]
    assert "301" in finding and "300" in finding


def test_a_config_of_another_model(folder):
    shutil.copy(
        MODELS / "roformer_factorized" / "bert_config.json", folder / "bert_config.json"
    )
    assert "model" in failures(verify(folder))


def test_no_vocabulary_is_no_failure(folder):
    (folder / "vocab.txt").unlink()
    report = verify(folder)
    assert report.passed, failures(report)
    assert "no vocab.txt" in {c.name: c.finding for c in report.checks}["vocabulary"]


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path):
    assert "checkpoint" in failures(verify(tmp_path))
