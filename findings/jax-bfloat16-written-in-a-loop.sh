#!/usr/bin/env bash
# On a CPU XLA converts a whole bfloat16 array to float32 and back to write one row into it.
#
# With:  JAX 0.10.2, NumPy 2.4.6, on a CPU
# Valid: `dynamic_update_slice` of a row into a donated (4096, 256) array in `lax.fori_loop`, as a
#        decoding loop writes into its cache
# Seen:  in bfloat16 every step converts all 4096 rows, twice; in float16, of the same size, and in
#        float32 it writes one row in place
# Due:   one row in place in bfloat16, too: nothing is computed with the numbers
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import re

import jax
from jax import lax


def fill(cache, rows):
    def write(i, cache):
        return lax.dynamic_update_slice(cache, rows[i][None], (i, 0))

    return lax.fori_loop(0, len(rows), write, cache)


found = {}
for dtype in ("float32", "float16", "bfloat16"):
    shapes = [jax.ShapeDtypeStruct((length, 256), dtype) for length in (4096, 16)]
    program = jax.jit(fill, donate_argnums=0).lower(*shapes).compile().as_text()
    found[dtype] = len(re.findall(r"= \w+\[4096,256\]\S* convert\(", program))
    print(f"{dtype}: {found[dtype]} conversions of all 4096 rows")
assert found == {"float32": 0, "float16": 0, "bfloat16": 2}, "XLA does otherwise now"
PY
