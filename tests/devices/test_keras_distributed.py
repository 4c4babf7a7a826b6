"""Training over several devices: ``two_replicas``, in a process that has two of them."""

import subprocess
import sys

import pytest

from paths import ROOT, TESTS

pytestmark = pytest.mark.frameworks

CASES = TESTS / "devices" / "two_replicas.py"


def test_over_two_devices_everything_is_as_on_one(tf_backend):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
