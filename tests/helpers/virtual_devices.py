"""Tests that need several devices run in a process of their own, where JAX has eight."""

import os
import subprocess
import sys

from paths import TESTS

DEVICES = "--xla_force_host_platform_device_count=8"


def assert_passes_over_eight_devices(name):
    """Run a file of tests of ``tests/devices``, which pytest does not collect."""
    environment = {**os.environ, "XLA_FLAGS": DEVICES, "JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(TESTS / "devices" / name),
    ]
    done = subprocess.run(
        command, env=environment, cwd=TESTS.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
