"""Engines as they are published; what is converted for them stays in a folder of the tests.

A test without its engine is skipped, but not in the environment of engines. The warnings of an
engine are its own; those of the package are errors here as elsewhere.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine_cases import ENGINES
from gptj.backends import get_backend

PUBLISHED = (
    "ctransformers",
    "ctranslate2",
    "onnx",
    "onnxruntime",
    "onnxruntime_genai",
    "openvino",
    "transformers",
)
MISSING = [name for name in PUBLISHED if find_spec(name) is None]
HERE = Path(__file__).parent

if MISSING and os.environ.get("GPTJ_REQUIRE_TOOLS") == "engines":
    raise pytest.UsageError(f"These tests need {', '.join(MISSING)}: run `tox -e engines`.")
collect_ignore = ["test_versions.py"] if MISSING else []


def pytest_collection_modifyitems(items):
    """Let engines warn."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error:::gptj"), append=False)
            item.add_marker(pytest.mark.filterwarnings("default"), append=False)


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
