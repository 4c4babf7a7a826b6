"""The backends that can be tested here."""

import os

import pytest

from gptj.backends import BUILT_IN, get_backend, is_installed

REQUIRED = [name for name in os.environ.get("GPTJ_REQUIRE", "").split(",") if name]
FRAMEWORKS = [name for name in BUILT_IN if is_installed(name) or name in REQUIRED]
PLUGGED_IN = "oracle"


def require(name):
    """Return a backend, or skip the test where its framework is not installed nor required."""
    if name not in FRAMEWORKS:
        pytest.skip(f"{BUILT_IN[name]} is not installed")
    return get_backend(name)
