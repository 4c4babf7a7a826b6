"""A script of transformers 4.x loses the same with our names in the place of transformers'."""

import os
import re
import subprocess
import sys

import pytest

import gptj
from paths import ROOT

pytestmark = pytest.mark.frameworks

SCRIPT = ROOT / "examples" / "from_transformers_torch.py"
SMALL = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64}
SAME = 5e-5  # AdamW hands on the rounding of gradients near zero whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    gptj.init(gptj.GPTJConfig(**SMALL), path, seed=1)
    return path


def losses(script, *options):
    """Return the losses that a script prints."""
    command = [sys.executable, str(script), *map(str, options)]
    where = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **where})
    assert done.returncode == 0, done.stderr[-4000:]
    return [float(number) for number in re.findall(r"loss (\d+\.\d+)", done.stdout)]


@pytest.mark.parametrize("labels", [0, 2])
def test_its_losses_are_those_of_transformers(folder, tmp_path, labels):
    theirs = tmp_path / "theirs.py"
    given = SCRIPT.read_text(encoding="utf-8")
    text = given.replace("\nfrom gptj import", "\nfrom transformers import")
    theirs.write_text(text, encoding="utf-8")
    assert text.count("from gptj") == given.count("from gptj") - 1
    options = ("--model", folder, "--steps", 5, "--labels", labels, "--out")
    found = losses(SCRIPT, *options, tmp_path / "ours")
    assert len(found) == 5
    assert found == pytest.approx(losses(theirs, *options, tmp_path / "out"), abs=SAME)
