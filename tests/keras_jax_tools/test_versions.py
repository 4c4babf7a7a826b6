"""The tools are those that `docs/tools.md` names."""

from importlib.metadata import version

import pytest

pytestmark = pytest.mark.frameworks

TOOLS = {
    "ai-edge-litert": "2.3.0",
    "flax": "0.12.8",
    "jax": "0.10.2",
    "keras-tuner": "1.4.8",
    "onnx": "1.23.2",
    "onnxruntime": "1.32.0",
    "optax": "0.2.8",
    "orbax-checkpoint": "0.12.8",
    "openvino": "2026.4.1",
    "pydot": "4.0.1",
    "tf2onnx": "1.17.0",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_version_is_the_one_that_was_tried(tool):
    assert version(tool) == TOOLS[tool]
