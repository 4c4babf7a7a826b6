"""Fixtures of the whole suite: the backends to test, and small models in each of them.

Every test that takes `backend` runs once per backend found: those whose framework is installed,
and NumPy's. What they compute is compared with the oracle, which ``tests/plugin`` plugs in as a
stranger would plug in a backend.
``GPTJ_REQUIRE=torch,tf`` turns a missing framework from a skip into a failure, and
``--backends=mlx`` tests just those backends, also an engine's or a stranger's.
"""

import gc
import os
import re
import signal
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny matrices lose time to a second thread
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell put the tests into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # commands that they run heed Ctrl-C

import pytest

from gptj.backends import get_backend, resolve_name
from gptj.errors import ArgumentError
from gptj.spec.config import DTYPES
from installed import FRAMEWORKS, NUMPY, require

MODULES = {"torch", "tensorflow", "keras", "jax", "flax"}


def pytest_addoption(parser):
    """Let a backend's author choose what is tested."""
    parser.addoption(
        "--backends", metavar="NAME,...", help="test these backends alone, built in or plugged in"
    )


def pytest_configure(config):
    """Take the chosen backends for those that are installed, before any test is collected."""
    chosen = config.getoption("backends")
    if chosen is not None:
        try:
            FRAMEWORKS[:] = [resolve_name(name) for name in chosen.split(",")]
        except ArgumentError as error:
            raise pytest.UsageError(f"--backends: {error}") from error


def pytest_generate_tests(metafunc):
    """Run a test of `backend` or `framework` once for each."""
    names = FRAMEWORKS or [pytest.param(None, marks=pytest.mark.skip("no framework"))]
    own = [str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")]
    own_names = re.findall(r"\w+", " ".join(own))
    fixtures = {*metafunc.fixturenames} - {*own_names}
    if "framework" in fixtures:
        metafunc.parametrize("framework", names, indirect=True)
    if "backend" in fixtures:
        numpy = [pytest.param(NUMPY, marks=pytest.mark.numpy_backend)]
        others = numpy if metafunc.config.getoption("backends") is None else []
        metafunc.parametrize("backend", [*FRAMEWORKS, *others], indirect=True)


@pytest.fixture
def backend(request):
    """Every backend in turn that needs no engine, or those that are asked for."""
    return get_backend(request.param)


@pytest.fixture
def framework(request):
    """Every backend that stands on a framework."""
    return get_backend(request.param)


@pytest.fixture
def torch_backend():
    """The PyTorch backend, or a skip; what a test compiles counts in no other test."""
    yield require("torch")
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture
def tf_backend():
    """The TensorFlow backend, or a skip."""
    return require("tf")


@pytest.fixture
def flax_backend():
    """The Flax backend, or a skip."""
    return require("flax")


@pytest.fixture
def promotion():
    """Let Optax mix dtypes, which the other tests forbid to the package."""
    if "flax" not in FRAMEWORKS:
        yield
        return
    import jax

    with jax.numpy_dtype_promotion("standard"):
        yield


def pytest_collection_finish():
    """Leave the million objects of imported frameworks out of every later collection."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config, items):
    """Refuse a test without a mark, and one whose name is another in each process."""
    if config.getoption("backends") is not None:
        without = [item for item in items if asks_too_much(item)]
        items[:] = [item for item in items if item not in without]
        config.hook.pytest_deselected(items=without)
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} has an address in its name: give it `ids=`.")
        if not any(item.get_closest_marker(name) for name in ("neutral", "frameworks")):
            raise pytest.UsageError(
                f"{item.nodeid} has neither mark: mark it, or its file, as `neutral` where no "
                "framework can change it, so that it runs in one environment, else `frameworks`."
            )


def asks_too_much(item):
    """Return whether a test needs a capability or a dtype that the chosen backend lacks."""
    needed, call = item.get_closest_marker("needs"), getattr(item, "callspec", None)
    name = call and (call.params.get("framework") or call.params.get("backend"))
    if name is None:
        return False
    has = get_backend(name).capabilities
    lacks_dtype = call.params.get("dtype", "float32") in {*DTYPES} - {*has.dtypes}
    return lacks_dtype or (needed is not None and not getattr(has, needed.args[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a neutral test that imports a framework: its environment is to have none."""
    before = MODULES & sys.modules.keys()
    yield
    imported = MODULES & sys.modules.keys() - before
    if imported and item.get_closest_marker("neutral"):
        pytest.fail(f"A neutral test imported {', '.join(sorted(imported))}: mark `frameworks`.")
