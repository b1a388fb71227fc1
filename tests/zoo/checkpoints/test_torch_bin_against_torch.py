"""PyTorch files: what torch itself writes and reads."""

from pathlib import Path

import numpy as np
import pytest

from zoo.checkpoints import CheckpointError, open_checkpoint

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = sorted(GOLDEN.glob("**/pytorch_model.bin"))
assert len(FILES) == 9
DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def as_bytes(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def check(path, tensors):
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.variables) == list(tensors) and tensors
        for name, tensor in tensors.items():
            found = checkpoint.read(name)
            assert found.shape == tuple(tensor.shape)
            assert found.dtype.name == str(tensor.dtype).removeprefix("torch.")
            assert found.tobytes() == as_bytes(tensor)
        checkpoint.verify()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_fixtures(path):
    check(path, torch.load(path, weights_only=True))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_files_that_torch_writes(tmp_path, zipped, protocol):
    table = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {str(dtype): torch.ones(3, 2).to(dtype) for dtype in DTYPES}
    tensors |= {
        "shared": table,
        "transposed": table.T,
        "slice": table[1:3, ::2],
        "expanded": table[0, :1].expand(4, 5)[:2, :2],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    path = tmp_path / "model.pt"
    torch.save(
        tensors,
        path,
        _use_new_zipfile_serialization=zipped,
        pickle_protocol=protocol,
    )
    check(path, tensors)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_state_dict_of_a_module(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    path = tmp_path / "model.bin"
    for content in (
        module.state_dict(),
        {"epoch": 1, "state_dict": module.state_dict()},
        {"model": module.state_dict(), "lr": 0.1, "betas": (0.9, 0.999)},
    ):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        check(path, module.state_dict())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_whole_modules_are_refused(tmp_path, zipped):
    path = tmp_path / "model.bin"
    torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="asks for torch.nn.modules.linear"):
        open_checkpoint(path)


def test_file_without_checksums(tmp_path):
    path = tmp_path / "model.bin"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(4)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("a"), np.ones(4))
        assert checkpoint.verify() is False
