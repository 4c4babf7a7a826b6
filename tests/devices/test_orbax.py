"""Orbax restores on another number of devices into ``model.abstract_params``."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("jax")

from gptj.errors import ArgumentError
from meshes import build
from models import tiny_model
from paths import TESTS
from tolerances import assert_close

pytestmark = pytest.mark.frameworks


def run(devices, action, folder):
    """Run a process with so many devices, and return the logits that it finds."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS / "helpers"))),
    }
    command = [sys.executable, str(TESTS / "devices" / "orbax_process.py"), action, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / f"{action}.npy")


def test_what_eight_devices_save_two_devices_and_one_read(flax_backend, tmp_path):
    saved = run(8, "save", tmp_path)
    for devices in (2, 1):
        assert_close(run(devices, "restore", tmp_path), saved, "float32", "logits")


def test_the_tree_has_the_shapes_and_dtypes_of_the_parameters(flax_backend):
    import jax
    from jax.sharding import NamedSharding

    mesh = jax.make_mesh((1, 1), ("data", "model"))
    model = build(None, dtype="bfloat16")
    model.add_lora(2)
    tree = model.abstract_params(mesh)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), tree) == jax.tree.map(
        lambda x: (x.shape, x.dtype), model.params
    )
    assert {type(leaf.sharding) for leaf in jax.tree.leaves(tree)} == {NamedSharding}
    empty = type(model)(model.config, _do_init=False, param_dtype="float16")
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(empty.abstract_params(mesh))}
    assert dtypes == {"float16"}


@pytest.mark.parametrize("scan_layers", [False, True])
def test_without_a_sharding_the_tree_leaves_it_open(flax_backend, scan_layers):
    import jax

    model = tiny_model("flax")
    model = type(model)(model.config, scan_layers=scan_layers)
    tree = model.abstract_params()
    wanted = jax.eval_shape(lambda tree: tree, model.params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), tree) == jax.tree.map(
        lambda x: (x.shape, x.dtype), wanted
    )
    assert {leaf.sharding for leaf in jax.tree.leaves(tree)} == {None}


def test_what_is_no_sharding_is_refused(flax_backend):
    with pytest.raises(ArgumentError, match="sharding 'model' is none"):
        tiny_model("flax").abstract_params("model")
