"""Saving onto a full disk, and being killed: what was there stays whole."""

import shutil
import signal
import subprocess
import sys

import pytest

from gptj.checkpoint.saving import ACCEPTED
from paths import HELPERS
from weight_files import read_all, save

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One folder per form."""
    root = tmp_path_factory.mktemp("whole")
    return {form: save(root / form, form) for form in ACCEPTED}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from weight_files import save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
save(Path(sys.argv[1]), sys.argv[2], beside=True)
"""


def run_script(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=HELPERS, capture_output=True, text=True, check=False)


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("form", ACCEPTED)
def test_a_full_disk_leaves_what_was_there(form, whole, tmp_path):
    shutil.copytree(whole[form], tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    result = run_script(FULL_DISK, tmp_path, form, 300 if form == "mesh" else 6000)
    assert "Could not write" in result.stderr, result.stderr
    assert "What was there before is unchanged" in result.stderr
    assert contents(tmp_path) == before


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from weight_files import TENSORS, save
from gptj.spec.tensors import LazyTensor
def slow():
    print("writing", flush=True)
    time.sleep(60)
TENSORS["lm_head.bias"] = LazyTensor((16,), np.dtype("float32"), slow)
save(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("form", ["safetensors", "h5"])
def test_a_kill_in_the_middle_leaves_what_was_there(form, whole, tmp_path):
    shutil.copytree(whole[form], tmp_path, dirs_exist_ok=True)
    command = [sys.executable, "-c", KILLED, str(tmp_path), form]
    with subprocess.Popen(command, cwd=HELPERS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    read_all(tmp_path)
    found = {name: content for name, content in contents(tmp_path).items() if len(name.parts) == 1}
    assert found == contents(whole[form])
