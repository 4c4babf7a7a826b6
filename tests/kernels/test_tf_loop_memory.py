"""TensorFlow's compiled loop holds no copy of its weights, which XLA would upcast or copy."""

import os
import re
import subprocess
import sys

import pytest

from paths import HELPERS

pytestmark = pytest.mark.frameworks

SCRIPT = """
import sys

import numpy as np

from gptj.backends.tf.kernels import half_precision
from models import tiny_model
from quantized_cases import quantized_model

smaller_than_weights = dict.fromkeys(half_precision.BLOCK_SIZE, 2**14)
half_precision.BLOCK_SIZE = smaller_than_weights
WIDE = {"n_embd": 256, "n_head": 4, "n_layer": 4, "rotary_dim": 16, "n_inner": 1024}
model = (
    quantized_model("tf", dtype="bfloat16", **WIDE)
    if sys.argv[1] == "int8"
    else tiny_model("tf", dtype=sys.argv[1], **WIDE)
)
model.generate(np.full((int(sys.argv[2]), 8), 7), max_new_tokens=8, do_sample=False)
print(sum(variable.value.dtype.size * int(np.prod(variable.shape)) for variable in model.variables))
"""


@pytest.mark.usefixtures("tf_backend")
@pytest.mark.parametrize(
    ("dtype", "rows"), [("bfloat16", 1), ("float16", 1), ("int8", 1), ("int8", 3)]
)
def test_a_compiled_loop_holds_no_copy_of_its_weights(dtype, rows, tmp_path):
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*loop.*"
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, dtype, str(rows)],
        env=os.environ | {"XLA_FLAGS": flags},
        cwd=HELPERS,
        capture_output=True,
        text=True,
        check=True,
    )
    weights = int(found.stdout.splitlines()[-1])
    (report,) = tmp_path.glob("*buffer-assignment.txt")
    sizes = re.findall(r"allocation \d+: size (\d+), preallocated-temp", report.read_text())
    # upcast, half precision is twice as large as it was, and copied, as large
    assert 0 < sum(map(int, sizes)) < 0.5 * weights
    (program,) = tmp_path.glob("*cpu_after_optimizations.txt")
    scattered = re.findall(r"= (\w+)\[\S+ scatter\(", program.read_text())
    assert scattered  # the cache's new tokens, for which it would be upcast
    assert "f32" not in scattered
