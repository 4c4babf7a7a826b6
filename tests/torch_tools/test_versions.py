"""The tools are those that `docs/tools.md` names."""

from importlib.metadata import version

import pytest

pytestmark = pytest.mark.frameworks

TOOLS = {
    "accelerate": "1.15.0",
    "lm_eval": "0.4.13",
    "nnsight": "0.8.1",
    "peft": "0.21.2",
    "torchao": "0.18.0",
    "transformer-lens": "4.3.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_version_is_the_one_that_was_tried(tool):
    assert version(tool) == TOOLS[tool]
