"""TensorFlow's compiled loop holds no copy of its weights, which XLA would upcast or copy."""

import os
import re
import subprocess
import sys

import pytest

from paths import HELPERS

pytestmark = pytest.mark.frameworks

CASES = [("bfloat16", 1), ("float16", 1), ("int8", 1), ("int8", 3)]
"""Weights and how many texts are written; the texts' number is that of the program's rows."""

SCRIPT = f"""
import numpy as np

from gptj.backends.tf.kernels import half_precision
from models import tiny_model
from quantized_cases import quantized_model

smaller_than_weights = dict.fromkeys(half_precision.BLOCK_SIZE, 2**14)
half_precision.BLOCK_SIZE = smaller_than_weights
WIDE = dict(n_embd=256, n_head=4, n_layer=1, rotary_dim=16, n_inner=1024)
for weights, rows in {CASES}:
    model = (
        quantized_model("tf", dtype="bfloat16", **WIDE)
        if weights == "int8"
        else tiny_model("tf", dtype=weights, **WIDE)
    )
    model.generate(np.full((rows, 8), 7), max_new_tokens=8, do_sample=False)
    values = [variable.value for variable in model.variables]
    sizes = [value.dtype.size * int(np.prod(value.shape)) for value in values]
    print("weights take", sum(sizes))
"""


@pytest.mark.usefixtures("tf_backend")
def test_a_compiled_loop_holds_no_copy_of_its_weights(tmp_path):
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*loop.*"
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"XLA_FLAGS": flags, "TF_XLA_FLAGS": ""},  # what is kept is not dumped
        cwd=HELPERS,
        capture_output=True,
        text=True,
        check=True,
    )
    weights = [int(size) for size in re.findall(r"weights take (\d+)", found.stdout)]
    reports = sorted(tmp_path.glob("*buffer-assignment.txt"))  # in the order of compilation
    programs = sorted(tmp_path.glob("*cpu_after_optimizations.txt"))
    for size, report, program in zip(weights, reports, programs, strict=True):
        kept = re.findall(r"allocation \d+: size (\d+), preallocated-temp", report.read_text())
        # upcast, half precision is twice as large as it was, and copied, as large
        assert 0 < sum(map(int, kept)) < 0.5 * size, report.name
        scattered = re.findall(r"= (\w+)\[\S+ scatter\(", program.read_text())
        assert scattered  # the cache's new tokens, for which it would be upcast
        assert "f32" not in scattered, program.name
    assert len(weights) == len(CASES)
