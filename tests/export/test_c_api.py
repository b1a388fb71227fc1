"""A C program runs an exported folder, with no Python in its process."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_tasks import TEXTS, small_task

from bert4keras3.export.saved_model import export_saved_model

SOURCE = Path(__file__).with_name("predict.c")


def wheel():
    """The folder of the TensorFlow that is installed."""
    import tensorflow as tf

    return Path(tf.__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    target, folder = tmp_path_factory.mktemp("c") / "predict", wheel()
    libraries = [
        folder / "libtensorflow_cc.so.2",
        folder / "libtensorflow_framework.so.2",
    ]
    command = ["gcc", "-O1", "-I", folder / "include", SOURCE, "-o", target]
    subprocess.run([*command, *libraries, f"-Wl,-rpath,{folder}"], check=True)
    return target


def tensor_names(folder, signature, output, column="text"):
    """Names of tensors in the graph, from the file alone."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    found = saved.meta_graphs[0].signature_def[signature]
    return found.outputs[output].name, found.inputs[column].name


def run(program, folder, texts, output, signature="serving_default"):
    done = subprocess.run(
        [program, folder, *tensor_names(folder, signature, output)],
        input=b"".join(text.encode() + b"\0" for text in texts),
        capture_output=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split("\n")[:-1]


def test_a_classifier(program, tmp_path):
    task = small_task("text_classifier")
    folder = export_saved_model(task, tmp_path / "1")
    texts = [*TEXTS, "", "Été 人", "人" * 500]
    given = np.array(run(program, folder, texts, "logits"), float)
    expected = task.predict(texts, verbose=0)
    np.testing.assert_allclose(given.reshape(-1, 2), expected, atol=1e-5)
    labels = [found[0][0] for found in task.classify(texts)]
    assert run(program, folder, texts, "label") == labels


def test_entities(program, tmp_path):
    task = small_task("entity_recognizer")
    for variable in task.trainable_variables:
        draw = np.random.default_rng(len(variable.path))
        variable.assign(draw.normal(0, 0.4, tuple(variable.shape)))
    folder = export_saved_model(task, tmp_path / "1")
    expected = task.recognize(TEXTS)
    most = max(map(len, expected))
    assert most
    for key, output in (("text", "texts"), ("type", "types"), ("start", "starts")):
        given = run(program, folder, TEXTS, output)
        for row, entities in enumerate(expected):
            found = given[row * most : row * most + len(entities)]
            assert found == [str(entity[key]) for entity in entities]
