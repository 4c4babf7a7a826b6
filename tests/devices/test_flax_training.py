"""Training in JAX: with optax, over meshes, saved by orbax."""

import pytest

from virtual_devices import assert_passes_over_eight_devices

pytestmark = pytest.mark.frameworks


def test_over_eight_devices_training_goes_as_on_one(flax_backend):
    assert_passes_over_eight_devices("eight_devices_training.py")
