"""PyTorch's tools as they are published: their environment has them, no other collects these tests.

The warnings of a tool are its own; those of the package are errors here as elsewhere.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

TOOLS = (
    "accelerate",
    "lm_eval",
    "nnsight",
    "peft",
    "torchao",
    "transformer_lens",
    "transformers",
    "trl",
)
MISSING = [name for name in TOOLS if find_spec(name) is None]
HERE = Path(__file__).parent

if MISSING and os.environ.get("GPTJ_REQUIRE_TOOLS") == "torch":
    raise pytest.UsageError(f"These tests need {', '.join(MISSING)}: run `tox -e tools-torch`.")
collect_ignore_glob = ["test_*.py"] if MISSING else []

os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_DATASETS_OFFLINE"] = "1"


def pytest_collection_modifyitems(items):
    """Let tools warn."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error:::gptj"), append=False)
            item.add_marker(pytest.mark.filterwarnings("default"), append=False)
