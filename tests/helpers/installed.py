"""The backends that can be tested here."""

import os

import pytest

from gptj import backends
from gptj.backends import get_backend, is_installed

REQUIRED = [name for name in os.environ.get("GPTJ_REQUIRE", "").split(",") if name]
FRAMEWORKS = [name for name in backends.FRAMEWORKS if is_installed(name) or name in REQUIRED]
NUMPY = "numpy"
PLUGGED_IN = "oracle"
"""The NumPy backend in float64, whose numbers and texts the others are compared with."""


def require(name):
    """Return a backend, or skip the test where its framework is not installed nor required."""
    if name not in FRAMEWORKS:
        pytest.skip(f"{backends.FRAMEWORKS[name]} is not installed")
    return get_backend(name)
