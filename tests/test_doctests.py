"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
# Their examples download a released checkpoint, or read one that was downloaded.
NEED_THE_NETWORK = {"zoo.archive", "zoo.download"}

pytestmark = pytest.mark.tensorflow


def modules_with_examples():
    """Found by reading the files, so that collecting imports nothing of ours."""
    found = []
    for package in ("bert4keras3", "zoo"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if ">>>" in path.read_text(encoding="utf-8"):
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found.append(name.removesuffix(".__init__"))
    return found


def examples(name):
    """The docstring examples of a module, with the names they may use."""
    module = importlib.import_module(name)
    names = {"np": np, "keras": keras, **vars(module)}
    return [
        test
        for test in doctest.DocTestFinder().find(module, name, globs=names)
        if test.examples
    ]


def test_there_are_examples():
    assert len(modules_with_examples()) >= 25


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name, tmp_path, monkeypatch):
    # An example may write into the working folder.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BERT4KERAS3_CACHE", str(tmp_path))
    found = examples(name)
    assert found, "the examples are not in a docstring that doctest can see"
    for test in found:
        report = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        runner.run(test, out=report.append)
        assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("name", modules_with_examples())
def test_only_examples_that_need_the_network_are_skipped(name):
    skipped = [
        example
        for test in examples(name)
        for example in test.examples
        if example.options.get(doctest.SKIP)
    ]
    assert not skipped or name in NEED_THE_NETWORK
