"""Finding models by name, listing them, describing them."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import zoo.catalogue
import zoo.preset
import zoo.scores
from zoo.catalogue import ModelSummary, UnknownModelError, describe, find, list_models
from zoo.presets import PRESETS

ROOT = Path(__file__).parents[2]


def test_find():
    assert find("gau-alpha") is PRESETS["gau-alpha"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gau-alfa", "gau-alpha"),
        ("GAU_alpha", "gau-alpha"),
        ("roformer-v2-bse", "roformer-v2-base"),
        ("roformer_sim_small", "roformer-sim-small"),
        ("bert-base-chinse", "bert-base-chinese"),
        ("chinese_GAU-alpha-char_L-24_H-768", "gau-alpha"),
        ("chinese_roformer_L-6_H-384_A-6.zip", "roformer-small"),
        ("junnyu/roformer_chinese_base", "roformer-base"),
        ("roformer_v2_chinese_char_large", "roformer-v2-large"),
    ],
)
def test_a_near_name_is_suggested(name, meant):
    with pytest.raises(UnknownModelError) as caught:
        find(name)
    first, second, *rest = str(caught.value).splitlines()
    assert repr(name) in first
    assert repr(meant) in second
    assert all(known in "\n".join(rest) for known in PRESETS)


def test_a_name_like_none_and_no_name():
    with pytest.raises(UnknownModelError) as caught:
        find("zzzzz")
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(UnknownModelError):
        find("")
    with pytest.raises(TypeError, match="is a str"):
        find(None)


def test_list_all():
    models = list_models()
    assert models.names == list(PRESETS)
    assert all(isinstance(model, ModelSummary) for model in models)
    lines = str(models).splitlines()
    assert len(lines) == len(PRESETS) + 1
    assert repr(models) == str(models)
    for line, row in zip(lines[1:], PRESETS.values(), strict=True):
        assert line.startswith(row.name + " ")
        assert f"{row.parameters / 1e6:.1f}M" in line
        assert line.endswith(("hub", "open.zhuiyi.ai", "this package"))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("gau-alpha", ["gau-alpha"]),
        ("GAU*", ["gau-alpha", "gau-alpha-tiny"]),
        ("*-large", ["roformer-v2-large"]),
        (
            "roformer-v[2]-*",
            [f"roformer-v2-{s}" for s in ("small", "base", "large", "tiny")],
        ),
        ("zzz", []),
        ("", []),
    ],
)
def test_list_by_pattern(pattern, names):
    assert list_models(pattern).names == names


def test_an_empty_list_prints_a_hint():
    models = list_models("gau-alfa")
    assert models == [] and not models
    assert "'gau-alfa'" in str(models) and "Did you mean 'gau-alpha'" in str(models)
    assert "All of them" in str(list_models("zzz*"))


@pytest.mark.parametrize("name", PRESETS)
def test_describe(name):
    row = PRESETS[name]
    text = str(describe(name))
    flat = " ".join(text.split())
    assert text.startswith(name + "\n")
    assert max(len(line) for line in text.splitlines() if "http" not in line) <= 88
    for key in row.config:
        assert f"{key}=" in flat
    for fact in (row.licence, row.homepage, *row.urls, *row.papers, *row.notes):
        assert fact in flat
    for score in row.scores:
        assert f"{score.task} {score.value:.2f}" in flat
        assert score.source in flat


def test_describe_an_unknown_name():
    with pytest.raises(UnknownModelError, match="'gau-alpha'"):
        describe("gau-alfa")


@pytest.mark.parametrize("module", [zoo.catalogue, zoo.preset, zoo.scores])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


def test_the_table_needs_neither_keras_nor_the_network():
    # A bare package stands in for zoo/__init__.py, which is tested elsewhere.
    code = (
        "import sys, types\n"
        "package = types.ModuleType('zoo'); package.__path__ = ['zoo']\n"
        "sys.modules['zoo'] = package\n"
        "import zoo.catalogue, zoo.download\n"
        "heavy = {'keras', 'tensorflow', 'numpy', 'huggingface_hub', 'tqdm', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.strip() == "[]", result.stderr
