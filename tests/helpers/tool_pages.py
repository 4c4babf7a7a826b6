"""What ``docs/tools.md`` promises of each environment of tools: its examples and its versions."""

import ast
import os
import re
import subprocess
import sys

from paths import ROOT, TESTS

PAGE = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
ENVIRONMENTS = {
    "tools": "torch_tools",
    "keras-jax-tools": "keras_jax_tools",
    "engines": "engines",
}
"""The word after ``python`` of an example -> the folder of the tests that run it."""


def examples(word):
    """Return the examples that the tests of an environment run."""
    return re.findall(rf"```python {word}\n(.*?)```", PAGE, re.DOTALL)


def name_of(example):
    """Return the last tool that an example imports from, which is the one that it shows."""
    found = re.findall(r"^(?:from|import) (?!gptj|numpy|tempfile)(\w+)", example, re.MULTILINE)
    return (found or ["gptj"])[-1]


def run_example(example, folder):
    """Run an example in a folder, and fail if it does, or prints nothing."""
    where = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **where},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()


def versions_of(folder):
    """Return what the ``test_versions.py`` of a folder says."""
    tree = ast.parse((TESTS / folder / "test_versions.py").read_text(encoding="utf-8"))
    (table,) = (
        n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "TOOLS"
    )
    return ast.literal_eval(table)
