"""Fixtures of the whole suite: the backends to test, and small models in each of them.

Every test that takes `backend` runs once per backend found: the built-in ones whose framework is
installed, and the NumPy one of ``tests/plugin``, which is plugged in as a stranger's would be.
``GPTJ_REQUIRE=torch,tf`` turns a missing framework from a skip into a failure.
"""

import os
import re
import sys
from functools import cache

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny matrices lose time to a second thread
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from gptj.backends import BUILT_IN, get_backend
from installed import FRAMEWORKS, PLUGGED_IN, require


@pytest.fixture(params=[*FRAMEWORKS, PLUGGED_IN])
def backend(request):
    """Every backend in turn, the plugged-in one included."""
    return get_backend(request.param)


@pytest.fixture(params=FRAMEWORKS or [pytest.param(None, marks=pytest.mark.skip("no framework"))])
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


NAMES_A_FRAMEWORK = re.compile(
    r"^\s*(?:import|from) (?:torch|tensorflow|jax|flax|keras|optax|gptj\.backends)"
    r"|\b(?:require|importorskip|subprocess|CliRunner|invoke|modules)\b|\bTF[A-Z]|\bFlax[A-Z]|\bGPTJFor"
    r"|\bgptj\.(?:load|generate|finetune|predict|parity|bench|plan)\b",
    re.MULTILINE,
)
FIXTURES = {"backend", "framework", *(f"{name}_backend" for name in BUILT_IN)}


def pytest_collection_modifyitems(items):
    """Mark what no framework can change: it is enough to run it in one environment, ``core``."""
    for item in items:
        if not FIXTURES & set(item.fixturenames) and not names_a_framework(item.path):
            item.add_marker("neutral")


@cache
def names_a_framework(path):
    """Whether a file has a word in it that may lead to a framework."""
    return NAMES_A_FRAMEWORK.search(path.read_text(encoding="utf-8")) is not None
