"""Engines: what is converted for them goes into a folder of the tests, and not into the user's."""

import pytest

from engine_cases import ENGINES
from gptj.backends import get_backend


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory):
    """Return the folder that has what the tests of a process have converted."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(engine_cache, monkeypatch):
    """Let engines keep converted models there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(engine_cache))


@pytest.fixture(params=ENGINES)
def engine(request):
    """Every engine that runs the tests of all, in turn."""
    return get_backend(request.param)
