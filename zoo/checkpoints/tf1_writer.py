"""Writing TF1 checkpoints (`tf.train.Saver`, format V2) without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import google_crc32c

from zoo.checkpoints.bundle import Entry, entry_bytes, header_bytes
from zoo.checkpoints.checkpoint import CheckpointError
from zoo.checkpoints.replacing import replacing
from zoo.checkpoints.table import build_table, mask_crc32c
from zoo.checkpoints.tensor_source import Variables, named_tensors


def write_tf1(prefix: str | Path, variables: Variables) -> Path:
    """Write `prefix.index`, `prefix.data-00000-of-00001` and a `checkpoint` file.

    The files are, byte for byte, what `tf.train.Saver` writes for the same
    variables: tensors sorted by name in one data file. There is no `.meta` file: it
    holds the graph for `tf.train.import_meta_graph`, and neither
    `tf.train.load_checkpoint`, `Saver.restore` nor bert4keras looks at it. The
    `checkpoint` file names the prefix relative to its own folder, so the folder can
    be moved.

    Callables are called one after the other while their tensor is written, so a
    model need not exist in memory twice. The index is put in place last.

    Args:
        prefix: path without suffix, such as `"folder/bert_model.ckpt"`; the folder
            must exist, a checkpoint of the same prefix is replaced at the end.
        variables: name to array, or pairs of name and array; instead of an array
            there may be a callable without arguments that returns it.

    Returns:
        The prefix.

    Raises:
        CheckpointError: a name is not a string or comes twice, or TensorFlow has no
            such dtype.
        OSError: the disk is full, for instance; nothing is left behind then.

    Example:
        ```python
        write_tf1("folder/bert_model.ckpt", {"kernel": np.ones((2, 3), "float32")})
        ```
    """
    prefix = Path(prefix)
    if not prefix.name:
        raise CheckpointError("A prefix needs a file name, such as 'bert_model.ckpt'.")
    sources = named_tensors(variables)
    data_path = prefix.with_name(prefix.name + ".data-00000-of-00001")
    index_path = prefix.with_name(prefix.name + ".index")
    state_path = prefix.with_name("checkpoint")
    items = [(b"", header_bytes(num_shards=1))]
    offset = 0
    with replacing(data_path, state_path, index_path) as (data, state, index):
        for key, name in sorted((name.encode(), name) for name in sources):
            source = sources[name]
            crc = size = 0
            for chunk in source.chunks():
                crc = google_crc32c.extend(crc, chunk)
                size += data.write(chunk.data)
            info = source.info
            entry = Entry(info.dtype, info.shape, 0, offset, size, mask_crc32c(crc))
            items.append((key, entry_bytes(entry)))
            offset += size
        quoted = prefix.name.replace("\\", "\\\\").replace('"', '\\"')
        state.write(
            f'model_checkpoint_path: "{quoted}"\n'
            f'all_model_checkpoint_paths: "{quoted}"\n'.encode()
        )
        index.write(build_table(items))
    return prefix
