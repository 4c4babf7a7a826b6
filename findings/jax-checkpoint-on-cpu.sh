#!/usr/bin/env bash
# On a CPU `jax.checkpoint` saves no memory: the compiled gradient keeps what it should recompute.
#
# With:  JAX 0.10.2, NumPy 2.4.6, on a CPU
# Valid: the gradient of eight blocks of eight layers, each block in `jax.checkpoint` with its
#        `prevent_cse=True`
# Seen:  XLA's own account of temporary memory grows from 68 to 76 MB
# Due:   about a quarter of it: the inputs of eight blocks, and the insides of one
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp

WEIGHTS = jax.ShapeDtypeStruct((8, 64, 64), jnp.float32)
X = jax.ShapeDtypeStruct((4096, 64), jnp.float32)  # 1 MB, as each of the 64 results of a layer


def block(x, weight):
    for _ in range(8):
        x = jnp.tanh(x @ weight)
    return x


def temporary_bytes(block):
    def loss(weights, x):
        for weight in weights:
            x = block(x, weight)
        return x.sum()

    compiled = jax.jit(jax.grad(loss)).lower(WEIGHTS, X).compile()
    return compiled.memory_analysis().temp_size_in_bytes


plain, recomputed = temporary_bytes(block), temporary_bytes(jax.checkpoint(block))
print(f"temporary memory: {plain / 1e6:.1f} MB, with jax.checkpoint {recomputed / 1e6:.1f} MB")
assert plain > 64 * 4 * 4096 * 64
assert recomputed > 0.9 * plain, "jax.checkpoint saves memory on a CPU now"
PY
