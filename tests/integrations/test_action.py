"""The GitHub action in a repository that holds a folder of weights and a module of an engine."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from paths import HELPERS, ROOT, TINY

pytestmark = pytest.mark.neutral

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
INSTALL, COMPARE = ACTION["runs"]["steps"]

ENGINE = """
from models import checkpoint_weights
from planted import port

config, tensors = checkpoint_weights("weights")
weights = {name: tensor.read() for name, tensor in tensors.items()}
right, wrong = port(config, weights), port(config, weights, head_bias=False)
"""


@pytest.fixture
def repository(tmp_path):
    shutil.copytree(TINY, tmp_path / "weights")
    (tmp_path / "engine.py").write_text(ENGINE, encoding="utf-8")
    scripts = tmp_path / "bin"
    scripts.mkdir()
    command = scripts / "gptj"  # that of this clone, which may not be installed
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gptj "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return tmp_path


def run(repository, **inputs):
    """Run the step that compares, as GitHub's runner does for ``shell: bash``."""
    given = {name: inputs.get(name, one.get("default")) for name, one in ACTION["inputs"].items()}
    filled = {
        name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in COMPARE["env"].items()
    }
    own = {
        "PATH": f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HELPERS)]),
        "GITHUB_STEP_SUMMARY": str(repository / "summary.md"),
    }
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", COMPARE["run"]]
    environment = {**os.environ, **filled, **own}
    return subprocess.run(bash, cwd=repository, env=environment, capture_output=True, text=True)


def test_a_right_engine_passes_and_leaves_a_card_and_a_badge(repository):
    done = run(repository, model="weights", against="engine:right", dtype="float32")
    assert done.returncode == 0, done.stderr
    badge = json.loads((repository / "parity" / "parity.json").read_text())
    assert badge["schemaVersion"] == 1
    assert (badge["message"], badge["color"]) == ("passes in float32", "brightgreen")
    card = (repository / "parity" / "parity.md").read_text()
    assert card.startswith("## Numerical parity\n\nPASS: engine:right agrees")
    assert "| `model.safetensors` | `" in card
    assert (repository / "summary.md").read_text() == card


def test_a_wrong_engine_fails_with_the_mistake_in_the_summary(repository):
    done = run(repository, model="weights", against="engine:wrong", folder="out")
    assert done.returncode == 1, done.stderr
    assert "The bias of lm_head is left out." in (repository / "summary.md").read_text()
    badge = json.loads((repository / "out" / "parity.json").read_text())
    assert (badge["message"], badge["color"]) == ("fails", "red")


def test_it_installs_itself_and_what_is_asked_for():
    assert '"$GITHUB_ACTION_PATH" $PACKAGES' in INSTALL["run"]
