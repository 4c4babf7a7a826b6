#!/usr/bin/env bash
# safetensors' NumPy writer stores an array that is not row-major with its numbers out of place.
#
# With:  safetensors 0.8.0, NumPy 2.4.6
# Valid: `safetensors.numpy.save` of a transposed weight, which is how a matrix goes from the
#        (in, out) of Keras and Flax to the (out, in) of PyTorch
# Seen:  no error and no warning; the file has the right shape, and the bytes in the order in which
#        they lay in memory
# Due:   the numbers that were given, as safetensors 0.7.0 wrote them, or an error, as its writer
#        for PyTorch raises
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from safetensors.numpy import load, save

weight = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]).T
found = load(save({"weight": weight}))["weight"]
print("given:", weight.tolist())
print("found:", found.tolist())
assert weight.tolist() == [[0, 3], [1, 4], [2, 5]]
assert found.tolist() == [[0, 1], [2, 3], [4, 5]], "safetensors writes something else now"
assert np.array_equal(load(save({"weight": weight.copy("C")}))["weight"], weight)
PY
