"""Checkpoint files of other programs, read and written without those programs.

Nothing here imports TensorFlow or torch, maps files into memory, or unpickles
objects. There is one file per format.
"""

from zoo.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointNotFoundError,
    TensorInfo,
)
from zoo.checkpoints.opening import open_checkpoint
from zoo.checkpoints.safetensors import write_safetensors
from zoo.checkpoints.tf1_writer import write_tf1

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointNotFoundError",
    "TensorInfo",
    "open_checkpoint",
    "write_safetensors",
    "write_tf1",
]
