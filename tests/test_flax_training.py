"""Training in JAX: with optax, over meshes, saved by orbax."""

import os
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).parent / "eight_devices_training.py"
DEVICES = "--xla_force_host_platform_device_count=8"


def test_over_eight_devices_training_goes_as_on_one(flax_backend):
    environment = {**os.environ, "XLA_FLAGS": DEVICES, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(
        command, env=environment, cwd=CASES.parent.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
