"""The import rules of the project, read from the source with ``ast``.

    ops  <-  layers  <-  models  <-  tasks  <-  zoo  <-  examples

An arrow points to what may be imported. ``text`` stands beside ``ops`` and imports
nothing of ours; ``training`` may use everything below the tasks. ``hub`` stands beside
``zoo``: it uses the tasks, only who asks for it imports it, and it alone imports
KerasHub, by its public names.
"""

import ast
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part of bert4keras3 may import from its sister parts.
BASE = {"naming", "ops"}
BELOW_TASKS = BASE | {
    "text",
    "layers",
    "losses",
    "embedding_losses",
    "metrics",
    "models",
}
MAY_IMPORT = {
    "naming": set(),
    "ops": {"naming"},
    "text": set(),
    "layers": BASE,
    "losses": BASE,
    "embedding_losses": BASE,
    "metrics": BASE,
    "models": BASE | {"layers", "export"},
    "training": BELOW_TASKS,
    "tasks": BELOW_TASKS | {"training", "export"},
    "generation": BELOW_TASKS | {"tasks"},
    "export": {"text"},
    "hub": BELOW_TASKS | {"tasks"},
}
# Only zoo reaches the network or opens a checkpoint.
NETWORK_AND_CHECKPOINTS = {
    "ftplib",
    "h5py",
    "http",
    "httpx",
    "huggingface_hub",
    "kagglehub",
    "pickle",
    "requests",
    "safetensors",
    "shelve",
    "socket",
    "ssl",
    "tarfile",
    "urllib",
    "zipfile",
}
# Imported where they are used, never when a module of ours is imported.
HEAVY = {
    "huggingface_hub",
    "jax",
    "jieba",
    "keras_hub",
    "matplotlib",
    "rich",
    "tensorflow",
    "tensorflow_text",
    "torch",
    "typer",
}


def python_files(folder):
    return sorted(
        path
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imports(path, *, at_import_time=False):
    """The absolute names of the modules that a file imports, with line numbers."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = []
    pending = [tree]
    while pending:
        node = pending.pop()
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(
            node.test
        )
        if at_import_time and (lazy or typing_only):
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.append((name if is_module(name) else base, node.lineno))
    return found


LIBRARY = python_files("bert4keras3")
ZOO = python_files("zoo")
HUB = python_files("bert4keras3/hub")
GRAPHS = sorted((ROOT / "bert4keras3" / "text").glob("graph_*.py"))
GRAPHS += sorted((ROOT / "bert4keras3" / "export").glob("*signatures.py"))


def test_there_is_something_to_check():
    names = {module_name(path) for path in LIBRARY + ZOO}
    assert {"bert4keras3", "bert4keras3.ops", "zoo", "zoo.loading"} <= names
    for part in ("layers", "models", "tasks", "text"):
        assert any(name.startswith(f"bert4keras3.{part}.") for name in names), part


@pytest.mark.parametrize("path", LIBRARY, ids=module_name)
def test_import_direction(path):
    parts = module_name(path).split(".")
    if len(parts) == 1:
        return  # bert4keras3/__init__.py gathers the public names of all parts
    part = parts[1]
    assert part in MAY_IMPORT, f"give {part!r} a row in MAY_IMPORT"
    for name, line in imports(path):
        first, _, rest = name.partition(".")
        assert first not in {"zoo", "examples"}, f"{path}:{line} imports {name}"
        if first == "bert4keras3":
            sister = rest.partition(".")[0]
            assert sister, f"{path}:{line} imports the whole package: a cycle"
            assert sister == part or sister in MAY_IMPORT[part], (
                f"{path}:{line}: {part} may not import {sister}"
            )


def test_package_root_does_not_import_zoo():
    assert not [name for name, _ in imports(LIBRARY[0]) if name.startswith("zoo")]
    assert LIBRARY[0] == ROOT / "bert4keras3" / "__init__.py"


# It writes the states of its own runs in a safe format; it reads no released weights.
OWN_STATES = {("bert4keras3.training.checkpoints", "safetensors")}


@pytest.mark.parametrize("path", LIBRARY, ids=module_name)
def test_library_touches_no_network_and_no_checkpoint(path):
    for name, line in imports(path):
        package = name.partition(".")[0]
        if (module_name(path), package) in OWN_STATES:
            continue
        assert package not in NETWORK_AND_CHECKPOINTS, (
            f"{path}:{line} imports {name}; only zoo may"
        )


@pytest.mark.parametrize(
    "path",
    [path for path in LIBRARY + ZOO if path != ROOT / "zoo" / "__main__.py"],
    ids=module_name,
)
def test_heavy_modules_are_imported_where_they_are_used(path):
    heavy = HEAVY - {"keras_hub"} if path in HUB else HEAVY
    # What is made of TensorFlow's operations is imported where it is used.
    if path in GRAPHS:
        heavy = heavy - {"tensorflow"}
    else:
        heavy = heavy | set(map(module_name, GRAPHS))
    for name, line in imports(path, at_import_time=True):
        assert name not in heavy, f"{path}:{line} imports {name} at import time"
        assert name.partition(".")[0] not in heavy, (
            f"{path}:{line} imports {name} at import time; move it into the function"
        )


def test_examples_are_imported_by_nobody():
    files = LIBRARY + ZOO
    assert files
    for path in files:
        assert not [name for name, _ in imports(path) if name.startswith("examples")]


def test_hub_is_imported_by_nobody():
    assert HUB
    for path in sorted(set(LIBRARY + ZOO) - set(HUB)):
        names = [name for name, _ in imports(path)]
        assert not [name for name in names if name.startswith("bert4keras3.hub")], path


@pytest.mark.parametrize("path", LIBRARY + ZOO, ids=module_name)
def test_keras_hub_is_used_by_its_public_names(path):
    """Found in the syntax tree: `keras_hub.models.Backbone`, never `keras_hub.src`."""
    for name, line in imports(path):
        if name.partition(".")[0] == "keras_hub":
            assert name == "keras_hub", f"{path}:{line} imports {name}"
            assert path in HUB, f"{path}:{line} imports KerasHub"
    public = {"layers", "metrics", "models", "samplers", "tokenizers", "utils"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "keras_hub":
                assert node.attr in public, f"{path}:{node.lineno}: {node.attr}"


def test_no_architecture_imports_another():
    """A reader of one architecture opens one file; sharing is by calling layers."""
    architectures = {}
    for path in python_files("bert4keras3/models"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        if any(name.endswith("Backbone") and name != "Backbone" for name in classes):
            architectures[module_name(path)] = path
    assert len(architectures) >= 4
    for own, path in architectures.items():
        others = {name for name, _ in imports(path)} & set(architectures) - {own}
        assert not others, f"{own} imports {others}"


@pytest.mark.parametrize("path", LIBRARY + ZOO, ids=module_name)
def test_house_rules(path):
    assert path.stem not in {"utils", "helpers", "common", "misc", "snippets"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), (
                f"{path}:{node.lineno}: import names one by one"
            )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "eval", "exec"}, (
                f"{path}:{node.lineno}: {node.func.id}() in a library"
            )


def run_python(code):
    """Run code in a fresh interpreter on this run's backend; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_zoo_is_light():
    code = "import json, sys; import {0}; print(json.dumps(sorted(sys.modules)))"
    keras = set(json.loads(run_python(code.format("keras")).splitlines()[-1]))
    ours = set(json.loads(run_python(code.format("zoo")).splitlines()[-1]))
    assert "zoo" in ours and "keras" in keras
    # Keras itself brings in its backend and, when they are installed, rich and
    # huggingface_hub; we add nothing to those.
    assert not (HEAVY & ours) - keras
    assert not {"keras_hub", "tensorflow_text", "jieba", "matplotlib"} & ours


@pytest.mark.slow
def test_import_zoo_takes_little_more_time_than_keras():
    """At most 15 % more; medians of interleaved runs, so a busy machine hits both."""
    seconds = {"keras": [], "zoo": []}
    for _ in range(7):
        for module, taken in seconds.items():
            start = time.perf_counter()
            run_python(f"import {module}")
            taken.append(time.perf_counter() - start)
    keras, ours = (statistics.median(taken) for taken in seconds.values())
    assert ours <= 1.15 * keras, f"import zoo: {ours:.2f} s, keras: {keras:.2f} s"
