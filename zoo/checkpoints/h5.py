"""Reading HDF5 weight files: Keras 2 `save_weights`, and `tf_model.h5` mirrors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoo.checkpoints.checkpoint import Checkpoint, CheckpointError, TensorInfo
from zoo.checkpoints.hdf5 import HDF5File, Node


class H5Checkpoint(Checkpoint):
    """An HDF5 file of weights, in one of the two layouts that are in use.

    Keras 2 writes a group per layer and lists layers and weights in attributes. Files
    of bert4keras users are such files; they are known by position, because the names
    of inner layers (`dense_17/kernel:0`) depend on what else was built before. Here
    the weights of a layer are named `"<layer name>/<index>"`, in the saved order.

    Mirrors of Hugging Face (`tf_model.h5`) nest groups below the name of the model,
    `"<model>/<layer>/.../weight:0"`; here a weight has that path without the model's
    name, which only says for which task it was saved, and without `:0`. Files without
    attributes are read by the paths of their datasets.

    A file of a whole model (`model.save`) is read from its `model_weights`. Files of
    Keras 3 (`.weights.h5`) have no names inside and are not read here.

    Args:
        path: the file.

    Attributes:
        weight_names: name to the name that the file has for it.

    Raises:
        CheckpointError: the file is no HDF5 file, is damaged, has another layout, or
            has compressed, external or virtual datasets.

    Example:
        ```python
        checkpoint = H5Checkpoint("best_model.weights")
        checkpoint.read("Embedding-Token/0")
        ```
    """

    format = "h5"

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._file = HDF5File(path)
        try:
            nodes, self.weight_names = _find_weights(self._file)
            self._datasets = {name: node.dataset(name) for name, node in nodes.items()}
        except BaseException:
            self._file.close()
            raise
        super().__init__(
            path, [path], {name: d.info for name, d in self._datasets.items()}
        )

    def _read(self, name: str, info: TensorInfo) -> np.ndarray:
        return self._file.read(self._datasets[name])

    def close(self) -> None:
        self._file.close()


def _find_weights(file: HDF5File) -> tuple[dict[str, Node], dict[str, str]]:
    """Find the datasets by our names, and the file's names for them."""
    root = file.root
    if _names(root, "layer_names") is None and "model_weights" in root.members:
        root = root.child("model_weights")
    layers = _names(root, "layer_names")
    if layers is None:
        nodes = dict(_walk(root))
        if not nodes:
            raise CheckpointError(f"{file.path} holds no weights.")
        return nodes, {name: name for name in nodes}
    listed = [
        (layer, weight, _descend(group, weight))
        for layer, group in ((layer, root.child(layer)) for layer in layers)
        for weight in _names(group, "weight_names") or ()
    ]
    if not listed:
        raise CheckpointError(f"{file.path} lists {len(layers)} layers and no weights.")
    # A subclassed model puts its own name first and a layer's second.
    nested = all(
        weight.count("/") > 1 and weight.split("/")[1] in layers
        for _, weight, _ in listed
    )
    nodes, names, counts = {}, {}, dict.fromkeys(layers, 0)
    for layer, weight, node in listed:
        name = f"{layer}/{counts[layer]}"
        if nested:
            name = weight.split("/", 1)[1].removesuffix(":0")
            if name in nodes and weight.split("/")[1] != layer:
                # A tied weight is written again in the group of every layer it is in.
                continue
        counts[layer] += 1
        if name in nodes:
            raise CheckpointError(f"{file.path} lists {name!r:.80} twice.")
        nodes[name], names[name] = node, weight
    return nodes, names


def _names(group: Node, attribute: str) -> list[str] | None:
    """Read a list of names; Keras splits a long one into `name0`, `name1`, ..."""
    attributes = group.attributes
    if attribute in attributes:
        parts = [attributes[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in attributes:
            parts.append(attributes[f"{attribute}{len(parts)}"])
        if not parts:
            return None
    names = []
    for part in parts:
        if part is None:
            raise CheckpointError(
                f"{group.file.path}: the attribute {attribute} is no list of names."
            )
        names += part
    return names


def _descend(node: Node, name: str) -> Node:
    for part in name.split("/"):
        if not node.is_group or part in ("", ".", ".."):
            raise CheckpointError(
                f"{node.file.path}: {name!r:.80} is not a path to a weight."
            )
        node = node.child(part)
    return node


def _walk(root: Node) -> Iterator[tuple[str, Node]]:
    """Give all datasets below a group, by name, each once."""
    pending: list[tuple[str, Node]] = [("", root)]
    # Hard links can lead back to a group above.
    seen: set[int] = set()
    while pending:
        name, node = pending.pop()
        if node.address in seen:
            continue
        seen.add(node.address)
        if node.is_dataset:
            if f"/{name}".rpartition("/")[0].endswith("/vars"):
                raise CheckpointError(
                    f"{node.file.path} is a `.weights.h5` file of Keras 3, which "
                    "numbers its weights by the structure of the model. Build the "
                    "model, call `model.load_weights(path)`, then save it in a "
                    "released layout."
                )
            yield name.removesuffix(":0"), node
        for key in sorted(node.members, reverse=True):
            pending.append((f"{name}/{key}".lstrip("/"), node.child(key)))
