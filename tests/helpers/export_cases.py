"""What the tests of exports share: a folder to export, and its README.md without this package."""

import os
import re
import subprocess
import sys

from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.tensors import LazyTensor
from models import tiny_config, tiny_weights

WITHOUT_GPTJ = "import sys; sys.modules['gptj'] = None  # not importable\n"


def redrawn(folder, head="causal_lm", **changes):
    """Save the tiny model with all weights redrawn, and return its folder."""
    config = GPTJConfig.from_dict(tiny_config(**changes).to_dict())
    tensors = {name: LazyTensor.of(w) for name, w in tiny_weights(head, **changes).items()}
    save_checkpoint(folder, config, GenerationConfig.from_model(config), tensors)
    return folder


def run_readme(folder):
    """Run the program of an exported folder where this package cannot be imported."""
    (program,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GPTJ + program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def assert_measured(exported, texts=True):
    """Fail unless a runtime was measured, and is as near to the oracle as rounding allows."""
    parity = exported.parity
    assert parity["measured"] and parity["passed"]
    assert all(found["max"] <= found["limit"] for found in parity["cases"])
    assert (parity["texts"] is not None) == texts
    if texts:
        assert parity["texts"]["equal"] == parity["texts"]["of"] == 12
