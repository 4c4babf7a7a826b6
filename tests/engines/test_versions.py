"""The engines are those that `docs/tools.md` names."""

from importlib.metadata import version

import pytest

pytestmark = pytest.mark.frameworks

TOOLS = {
    "ctransformers": "0.2.27",
    "ctranslate2": "4.8.5",
    "onnx": "1.23.2",
    "onnxruntime": "1.32.0",
    "onnxruntime-genai": "0.18.0",
    "openvino": "2026.4.1",
    "transformers": "5.23.0",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_version_is_the_one_that_was_tried(tool):
    assert version(tool) == TOOLS[tool]
