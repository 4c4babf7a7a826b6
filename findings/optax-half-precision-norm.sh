#!/usr/bin/env bash
# Optax adds up the norm of half-precision gradients in their dtype, and clips to another norm.
#
# With:  Optax 0.2.8, JAX 0.10.2
# Valid: `optax.clip_by_global_norm(1.0)` on the gradients of a bfloat16 or float16 model, as a tree
#        of 2,000 leaves of 16 numbers
# Seen:  bfloat16: a norm of 64 in place of 178.9, as the sum stops growing, and clipped gradients
#        whose norm is 2.8; float16: a norm of inf, and every update is zero. No error, no warning
# Due:   178.9, as PyTorch's `clip_grad_norm_` finds (179 in bfloat16)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import jax
import jax.numpy as jnp
import optax


def norm_in_float32(tree):
    return float(sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(tree)) ** 0.5)


def clipped(dtype, value):
    """Return the true norm of the gradients, Optax's, and the true one after clipping to 1."""
    gradients = {index: jnp.full((16,), value, dtype) for index in range(2000)}
    clip = optax.clip_by_global_norm(1.0)
    after, _ = clip.update(gradients, clip.init(gradients))
    return norm_in_float32(gradients), float(optax.tree.norm(gradients)), norm_in_float32(after)


for dtype, value in (("float32", 1.0), ("bfloat16", 1.0), ("float16", 300.0)):
    print("%-8s norm %9.1f, Optax finds %8.1f, clipped to 1: %.3f" % (dtype, *clipped(dtype, value)))
assert abs(clipped("float32", 1.0)[2] - 1) < 1e-4
assert clipped("bfloat16", 1.0)[1] == 64 and clipped("bfloat16", 1.0)[2] > 2.5, "Optax adds up otherwise now"
assert clipped("float16", 300.0)[1] == float("inf") and clipped("float16", 300.0)[2] == 0
PY
