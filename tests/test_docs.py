"""The documentation says what the code does: names, tables, commands, code blocks."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from tools.readme_output import BLOCK, READMES, run_blocks, with_outputs
from tools.zoo_table import with_table
from zoo.presets import PRESETS

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# --- reference pages ------------------------------------------------------------


def public_names(path):
    """Public classes and functions at the top of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
    ]


def documented():
    """What the reference pages pull in: `::: name`."""
    names = []
    for path in (ROOT / "docs" / "reference").glob("*.md"):
        names += re.findall(r"^::: (\S+)$", path.read_text("utf-8"), re.MULTILINE)
    assert len(names) >= 20
    assert len(names) == len(set(names))
    return names


@pytest.mark.parametrize("name", documented())
def test_every_documented_name_exists(name):
    if ROOT.joinpath(*name.split(".")).with_suffix(".py").exists():
        return  # it may need a package that is not installed
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(
    "part", ["hub", "layers", "metrics", "models", "tasks", "training"]
)
def test_every_public_file_is_documented(part):
    files = sorted((ROOT / "bert4keras3" / part).glob("[!_]*.py"))
    expected = {
        f"bert4keras3.{part}.{path.stem}" for path in files if public_names(path)
    }
    assert expected
    missing = expected - set(documented())
    assert not missing, f"add to docs/reference/{part}.md"


def test_every_exported_name_of_text_is_documented():
    from bert4keras3 import text

    assert text.__all__
    missing = {f"bert4keras3.text.{name}" for name in text.__all__} - set(documented())
    assert not missing, "add to docs/reference/text.md"


@pytest.mark.parametrize("part", ["hub", "layers", "models"])
def test_every_public_class_is_exported(part):
    package = importlib.import_module(f"bert4keras3.{part}")
    assert len(package.__all__) >= 4
    for path in (ROOT / "bert4keras3" / part).glob("[!_]*.py"):
        module = importlib.import_module(f"{package.__name__}.{path.stem}")
        for name in public_names(path):
            if keras.saving.get_registered_name(getattr(module, name)) != name:
                assert name in package.__all__, f"add {name} to {part}/__init__.py"


def test_zoo_and_single_files_are_documented():
    import zoo
    import zoo.checkpoints

    names = set(documented())
    expected = {f"zoo.{name}" for name in zoo.__all__}
    expected |= {f"zoo.checkpoints.{name}" for name in zoo.checkpoints.__all__}
    assert {"zoo.load", "zoo.load_tokenizer"} <= expected
    files = (ROOT / "bert4keras3").glob("[!_]*.py")
    expected |= {f"bert4keras3.{path.stem}" for path in files if path.stem != "naming"}
    assert {"bert4keras3.ops"} <= expected
    assert not expected - names


def test_every_page_is_in_the_navigation():
    navigation = read("mkdocs.yml").partition("\nnav:\n")[2]
    listed = set(re.findall(r"[\w/]+\.md", navigation))
    assert listed == {name.removeprefix("docs/") for name in PAGES}


# --- the zoo's table, the commands ----------------------------------------------


def test_every_preset_is_in_the_tables():
    for name in (*READMES, "docs/reference/zoo.md"):
        text = read(name)
        table = text[text.index("<!-- zoo table -->") :]
        missing = [preset for preset in PRESETS if f"`{preset}`" not in table]
        assert PRESETS and not missing, f"{name} lacks {missing}"


def test_tables_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "tools/zoo_table.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "no table",
        "<!-- zoo table -->\nno end",
        2 * "<!-- zoo table -->\n<!-- end of zoo table -->\n",
    ],
)
def test_a_page_without_one_place_for_the_table_is_an_error(text):
    with pytest.raises(ValueError, match="zoo table"):
        with_table(text, "| a |\n")


def test_only_the_table_is_replaced():
    text = "before\n<!-- zoo table -->\n| old |\n<!-- end of zoo table -->\nafter\n"
    assert with_table(text, "| new |\n") == text.replace("old", "new")


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md"])
def test_make_targets_exist(name):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    used = set(re.findall(r"^make ([a-z-]+)", read(name), re.MULTILINE))
    used |= set(re.findall(r"`make ([a-z-]+)", read(name)))
    assert used
    assert not used - targets


def test_help_of_make_names_its_targets():
    makefile = read("Makefile")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    helped = set(re.findall(r"^#   make ([a-z-]+)", makefile, re.MULTILINE))
    assert {"demo", "test", "test-torch", "check"} <= helped <= targets


def test_commands_of_the_zoo_are_documented():
    from zoo.__main__ import app

    commands = {
        command.name or command.callback.__name__ for command in app.registered_commands
    }
    expected = {"list", "describe", "fill", "embed", "convert", "verify", "records"}
    expected |= {"compile"}
    assert expected == commands
    page = read("docs/reference/command_line.md")
    assert not [name for name in commands if f"| `{name} " not in page]


@pytest.mark.parametrize(
    "name", [*READMES, "CONTRIBUTING.md", "THIRD_PARTY.md", *PAGES]
)
def test_links_between_pages_lead_somewhere(name):
    text = read(name)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


# --- code blocks and examples ---------------------------------------------------


WITH_CODE = [name for name in (*READMES, *PAGES) if BLOCK.search(read(name))]


def same_output(printed, expected):
    """Equal words; numbers may differ in the last printed digit."""
    assert len(printed.split()) == len(expected.split()), printed
    for ours, theirs in zip(printed.split(), expected.split(), strict=True):
        if re.fullmatch(r"[0-9]+\.[0-9]+", theirs):
            assert float(ours) == pytest.approx(float(theirs), abs=0.011)
        else:
            assert ours == theirs, printed


@pytest.mark.parametrize("name", WITH_CODE)
def test_code_blocks_run(name, monkeypatch):
    """Every block runs, and prints what the page says it prints."""
    monkeypatch.chdir(ROOT)
    ran = 0
    for block, printed in run_blocks(read(name), name):
        if block["output"] is not None:
            same_output(printed, block["output"])
        ran += 1
    assert ran


def test_outputs_are_rewritten_and_nothing_else():
    page = (
        "a\n```python\nx = 2\nprint(x)\n```\n\n```text\nold\n```\nb\n"
        "<!-- not run: downloads -->\n```python\n1 / 0\n```\n"
        "```python\nprint(x + 1)\n```\n\n```text\n```\nc\n"
    )
    new = with_outputs(page, "page")
    assert new == page.replace("old", "2").replace("text\n```\nc", "text\n3\n```\nc")


def test_the_readmes_and_concept_pages_have_code():
    assert {*READMES, "docs/quickstart.md"} <= set(WITH_CODE)
    concepts = [name for name in PAGES if name.startswith("docs/concepts/")]
    assert len(concepts) >= 3 and set(concepts) <= set(WITH_CODE)
