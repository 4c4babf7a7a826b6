"""The pytest plugin in a repository that holds a folder of weights and ten lines."""

import os
import shutil
import subprocess
import sys
import tomllib
from xml.etree import ElementTree

import pytest

from paths import ROOT, TINY

pytestmark = pytest.mark.neutral

TEN_LINES = """
from models import checkpoint_weights
from planted import port

config, tensors = checkpoint_weights("weights")
weights = {name: tensor.read() for name, tensor in tensors.items()}


def test_right(gptj_parity):
    gptj_parity(against=port(config, weights))


def test_wrong(gptj_parity):
    gptj_parity("weights", against=port(config, weights, head_bias=False))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(TINY, folder / "weights")
    (folder / "test_engine.py").write_text(TEN_LINES, encoding="utf-8")
    return folder


def run(repository, *options):
    """Run pytest there, with the plugin that the entry point names."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plugin = points["entry-points"]["pytest11"]["gptj"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    given = {**os.environ, "PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, *options]
    return subprocess.run(command, cwd=repository, env=given, capture_output=True, text=True)


def test_a_right_engine_passes_and_a_wrong_one_fails_with_the_mistake(repository):
    done = run(repository, "--gptj-parity", "weights", "--junitxml", "report.xml")
    assert done.returncode == 1, done.stderr
    assert "1 failed, 1 passed" in done.stdout
    cases = ElementTree.parse(repository / "report.xml").iter("testcase")
    (failure,) = [found for case in cases for found in case.iter("failure")]
    assert "The bias of lm_head is left out." in failure.text


def test_without_a_model_the_fixture_asks_for_one(repository):
    done = run(repository, "-k", "right")
    assert "gptj_parity needs a model: name one, or say --gptj-parity FOLDER." in done.stdout
