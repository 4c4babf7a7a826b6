"""``docs/tools.md`` keeps its word: its examples run, and it names the versions of the tests."""

import ast
import os
import re
import subprocess
import sys

import pytest

from paths import ROOT, TESTS

pytestmark = pytest.mark.frameworks

PAGE = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python tools\n(.*?)```", PAGE, re.DOTALL)


def name_of(example):
    """Return the last tool that an example imports from, which is the one that it shows."""
    return (re.findall(r"^from (\w+)", example, re.MULTILINE) or ["torch"])[-1]


def tested_versions():
    """Return what ``test_versions.py`` says."""
    tree = ast.parse((TESTS / "torch_tools" / "test_versions.py").read_text(encoding="utf-8"))
    (table,) = (
        n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "TOOLS"
    )
    return ast.literal_eval(table)


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_an_example_runs_and_prints(example, tmp_path):
    where = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **where},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()


def test_the_page_names_the_versions_that_are_tested():
    named = dict(re.findall(r"^\| ([\w-]+) \| (\d[\d.]*) \|", PAGE, re.MULTILINE))
    assert named == tested_versions()


def test_every_example_of_the_page_is_run_here():
    assert PAGE.count("```python") == len(EXAMPLES) > 0
