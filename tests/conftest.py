"""Set up one pytest run: one Keras backend, quiet logs, few threads, fixed seeds.

Keras fixes its backend when it is imported, so a run tests one backend. The tests
of ``ON_EVERY_BACKEND`` run on each of them; the rest, which need no backend or work
the same on all, run once, on TensorFlow.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling steps that run once or twice.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
# JAX compiles each operation of a test by itself; what another process or an earlier
# run compiled is read back.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(os.path.dirname(__file__), ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# PyTorch's threads wait for one another longer than these small products take.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"

import random  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402

BACKEND = os.environ["KERAS_BACKEND"]
BACKENDS = ("tensorflow", "jax", "torch")
TESTS = Path(__file__).parent
# Files and folders, below this one.
ON_EVERY_BACKEND = (
    "export/test_other_backends.py",
    "layers",
    "models",
    "ops",
    "tasks",
    "training/test_ahead_of_time.py",
    "training/test_devices.py",
    "training/test_pretraining.py",
    "test_losses.py",
    "test_ops.py",
    "zoo/test_loading.py",
    "zoo/test_saving.py",
)


def pytest_addoption(parser):
    parser.addoption(
        "--variants",
        choices=["all", "few", "rest"],
        default="all",
        help="'few' runs three of each test's parameters, and all that compare with "
        "golden fixtures; 'rest' runs the others",
    )


def pytest_report_header(config):
    return f"keras backend: {BACKEND}, variants: {config.getoption('variants')}"


def pytest_itemcollected(item):
    path = item.path.relative_to(TESTS)
    places = {part.as_posix() for part in (path, *path.parents)}
    if places & set(ON_EVERY_BACKEND) or item.get_closest_marker("torch"):
        item.add_marker("backend")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave out the tests of other backends, and the variants not asked for."""

    def elsewhere(item):
        named = {mark.name for mark in item.iter_markers()} & set(BACKENDS)
        return bool(named) and BACKEND not in named

    left_out = {item for item in items if elsewhere(item)}
    if config.getoption("variants") != "all":
        few = few_variants([item for item in items if item not in left_out])
        wanted = config.getoption("variants") == "few"
        left_out |= {item for item in items if (item in few) != wanted}
    if left_out:
        config.hook.pytest_deselected(items=[i for i in items if i in left_out])
        items[:] = [item for item in items if item not in left_out]


def few_variants(items):
    """The first, the middle and the last item of each test function.

    JAX compiles every operation for every shape, so a variant costs seconds there
    that differs in nothing of the backend. Golden fixtures are no variants.
    """
    variants = {}
    for item in items:
        variants.setdefault(item.nodeid.partition("[")[0], []).append(item)
    few = set()
    for name, each in variants.items():
        some = {0, len(each) // 2, len(each) - 1}
        few.update(each if "golden" in name else [each[place] for place in some])
    return few


STATES = {}  # module name -> state of its generator `RNG` before the first test


@pytest.fixture(autouse=True)
def fixed_seeds(request):
    """Start every test from the same random state; import no Keras for it.

    The generator `RNG` that some modules have starts again as well, so that no test
    depends on those that ran before it.
    """
    generator = getattr(request.module, "RNG", None)
    if generator is not None:
        bits = generator.bit_generator
        bits.state = STATES.setdefault(request.module.__name__, bits.state)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(20260101)
    else:
        random.seed(20260101)
        np.random.seed(20260101)
