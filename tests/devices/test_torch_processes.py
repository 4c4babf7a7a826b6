"""Training over two processes gives the losses of one, and resumes with another number of them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gptj.errors import ArgumentError
from installed import require
from models import tiny_model
from paths import HELPERS, TESTS

pytestmark = pytest.mark.frameworks

TOLERANCE = 2e-4
"""Sums in another order, through six steps of AdamW."""


def train(folder, mode, processes):
    """Return the losses of a run of ``two_processes.py``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(TESTS / "devices" / "two_processes.py")]
    paths = f"{HELPERS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, mode, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads((folder / f"{mode}.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    require("torch")  # this runs before the fixture of the test, which would say so
    return train(tmp_path_factory.mktemp("alone"), "alone", 1)


@pytest.mark.parametrize("mode", ["fsdp", "tensor_parallel"])
def test_two_processes_give_the_losses_of_one(torch_backend, tmp_path, alone, mode):
    losses = train(tmp_path, mode, 2)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, alone, rtol=TOLERANCE)


def test_a_run_of_two_processes_resumes_in_one(torch_backend, tmp_path, alone):
    first = train(tmp_path, "save", 2)
    second = train(tmp_path, "resume", 1)
    np.testing.assert_allclose(first + second, alone, rtol=TOLERANCE)


def test_the_plan_of_tensor_parallelism_follows_from_the_axes(torch_backend):
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    from gptj.backends.torch.parallel import tensor_parallel_plan

    plan = tensor_parallel_plan(tiny_model("torch"))
    kinds = {name: type(style) for name, style in plan.items()}
    block = {name.removeprefix("transformer.h.0."): kind for name, kind in kinds.items()}
    for name in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "mlp.fc_in", "lm_head"):
        assert block[name] is ColwiseParallel
    for name in ("attn.out_proj", "mlp.fc_out", "transformer.wte"):
        assert block[name] is RowwiseParallel
    assert not any("ln_" in name for name in plan)


def test_heads_that_cannot_be_shared_are_refused(torch_backend):
    from gptj.backends.torch.parallel import tensor_parallel

    class Mesh:
        def size(self):
            return 3

    with pytest.raises(ArgumentError, match="3 processes cannot share n_head = 4 evenly"):
        tensor_parallel(tiny_model("torch"), Mesh())


def test_the_names_of_earlier_versions_are_the_same_functions(torch_backend):
    from gptj.backends.torch import parallel

    assert parallel.shard_fully is parallel.fsdp
    assert parallel.split_products is parallel.tensor_parallel
