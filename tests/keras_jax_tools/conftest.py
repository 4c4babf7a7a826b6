"""Keras's and JAX's tools as they are published: their environment has them, no other runs these.

The warnings of a tool are its own; those of the package are errors here as elsewhere.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

TOOLS = (
    "ai_edge_litert",
    "keras_tuner",
    "onnx",
    "onnxruntime",
    "openvino",
    "pydot",
    "tensorboard",
    "tf2onnx",
)
MISSING = [name for name in TOOLS if find_spec(name) is None]
HERE = Path(__file__).parent

if MISSING and os.environ.get("GPTJ_REQUIRE_TOOLS") == "keras-jax":
    raise pytest.UsageError(f"These tests need {', '.join(MISSING)}: `tox -e tools-keras-jax`.")
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_collection_modifyitems(items):
    """Let tools warn."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error:::gptj"), append=False)
            item.add_marker(pytest.mark.filterwarnings("default"), append=False)
