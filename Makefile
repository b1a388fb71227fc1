# Every target sets itself up: it makes a virtual environment in .venv, installs
# what it needs, then runs. A stamp file per set of packages makes the second run
# start at once; a changed pyproject.toml installs again.
#
#   make demo                     fill blanks and embed sentences with the bundled model
#   make test                     the tests, on TensorFlow and then on JAX
#   make test-variants            on JAX, the parameters that make test leaves out
#   make test-torch               the backend tests on PyTorch
#   make test-beam                the records of a cluster, on Beam's direct runner
#   make test-tpu                 training steps compiled for TPUs and GPUs, none needed
#   make examples                 every script of examples/ with --smoke
#   make slow                     the tests that take minutes
#   make check                    ruff and mypy
#   make format                   let ruff mend what it can
#   make docs                     the documentation, into site/
#   make readme                   the zoo's table and printed output, into the READMEs
#   make clean                    remove everything that make made
#
# PYTHON picks the interpreter for the virtual environment (3.11, 3.12 or 3.13):
#   make demo PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv

# On Linux, the package index's PyTorch wheel brings several gigabytes of CUDA
# libraries. The CPU build is enough for the tests; point pip at it by any of its
# own means, for example
#   PIP_EXTRA_INDEX_URL=<the CPU index named on pytorch.org> make test-torch
# The release is pinned, so that pip prefers a local "2.13.0+cpu" to a newer one.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
# Two processes, which take some 3 GB each; JOBS=0 tests in one.
JOBS ?= 2
ON_BACKEND := backend and not slow and not example and not tpu and not devices
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 20

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-tensorflow test-jax test-variants test-torch test-beam \
        test-tpu examples slow check format docs readme clean

help:
	@sed -n 's/^#   make/  make/p' Makefile

demo: $(VENV)/.stamp-base
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python examples/demo.py

# Each pytest run is one backend: Keras reads it at import.
test: test-tensorflow test-jax

test-tensorflow: $(VENV)/.stamp-dev
	KERAS_BACKEND=tensorflow $(PYTEST)

test-jax: $(VENV)/.stamp-jax
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu $(PYTEST) -m "$(ON_BACKEND)" --variants few

test-variants: $(VENV)/.stamp-jax
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu $(PYTEST) -m "$(ON_BACKEND)" --variants rest

test-torch: $(VENV)/.stamp-torch
	KERAS_BACKEND=torch $(PYTEST) -m "$(ON_BACKEND)"

test-beam: $(VENV)/.stamp-beam
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m beam

# The compilers are pinned: what they make of a step is compared with figures.
test-tpu: $(VENV)/.stamp-tpu
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu $(PYTEST) -m "tpu or devices"
	KERAS_BACKEND=tensorflow $(PYTEST) -m "tpu or devices"

examples: $(VENV)/.stamp-jax
	KERAS_BACKEND=tensorflow $(PYTEST) -m example

slow: $(VENV)/.stamp-jax
	KERAS_BACKEND=tensorflow $(PYTEST) -m slow
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu $(PYTEST) -m "slow and backend"

check: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: $(VENV)/.stamp-base
	$(BIN)/python tools/zoo_table.py
	$(BIN)/python tools/readme_output.py

docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache \
	    .hypothesis tests/.jax_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, checked first: a wrong interpreter is said in one line.
$(VENV)/.stamp-venv:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	    echo "error: '$(PYTHON)' was not found. Install Python 3.11, 3.12 or 3.13," \
	         "or name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "error: this project needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is" \
	         "$$("$(PYTHON)" -V 2>&1 | head -n 1). Name another: make PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' cannot make virtual environments (venv or ensurepip is" \
	         "missing). On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	@touch $@

$(VENV)/.stamp-base: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) -e .
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.stamp-base

$(VENV)/.stamp-jax: $(VENV)/.stamp-dev
	$(PIP) -e '.[dev,jax]'
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-dev
	$(PIP) '$(TORCH)'
	@touch $@

$(VENV)/.stamp-tpu: $(VENV)/.stamp-jax
	$(PIP) jax==0.10.2 libtpu==0.0.42.1 jax-cuda12-plugin==0.10.2 \
	    jax-cuda12-pjrt==0.10.2
	@touch $@

$(VENV)/.stamp-beam: $(VENV)/.stamp-dev
	$(PIP) -e '.[dev,beam]'
	@touch $@

$(VENV)/.stamp-docs: pyproject.toml $(VENV)/.stamp-venv
	$(PIP) -e '.[docs]'
	@touch $@ $(VENV)/.stamp-base
