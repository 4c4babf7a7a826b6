#!/usr/bin/env bash
# In `jax.shard_map` the mean of gradients over devices is too large by the number of devices.
#
# With:  JAX 0.10.2
# Valid: data parallelism over four virtual devices as it was always written: parameters whole on each,
#        rows divided, and `jax.lax.pmean` of `jax.grad` of the loss of a device's rows
# Seen:  4 times the gradient of the mean loss, without an error or a warning. With check_vma=False the
#        same line is right, and the gradient of the mean loss, right before, is that of one device
# Due:   the same gradient whatever is checked, as in `jax.pmap`; or a refusal, as the gradient of
#        parameters that do not vary has been added up over the devices already
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
XLA_FLAGS=--xla_force_host_platform_device_count=4 JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

mesh = jax.make_mesh((4,), ("data",))
weight = jnp.float32(0.5)
rows = jax.device_put(jnp.arange(1.0, 9.0), jax.NamedSharding(mesh, PartitionSpec("data")))


def loss(weight, rows):
    return jnp.mean((weight * rows - 1) ** 2)


def mean_of_gradients(weight, rows):
    return jax.lax.pmean(jax.grad(loss)(weight, rows), "data")


def gradient_of_mean(weight, rows):
    return jax.grad(lambda weight: jax.lax.pmean(loss(weight, rows), "data"))(weight)


right = float(jax.grad(loss)(weight, jnp.arange(1.0, 9.0)))
specs = {"in_specs": (PartitionSpec(), PartitionSpec("data")), "out_specs": PartitionSpec()}
seen = {}
for checked in (True, False):
    for function in (mean_of_gradients, gradient_of_mean):
        mapped = jax.jit(jax.shard_map(function, mesh=mesh, check_vma=checked, **specs))
        times = float(mapped(weight, rows)) / right
        seen[function.__name__, checked] = times
        print("%-17s check_vma=%-5s: %.3f times the gradient" % (function.__name__, checked, times))
mapped = jax.pmap(mean_of_gradients, "data", in_axes=(None, 0))
print("%-17s in jax.pmap     : %.3f times" % ("", mapped(weight, rows.reshape(4, 2))[0] / right))
assert abs(seen["mean_of_gradients", True] - 4) < 1e-5, "the mean of gradients is another now"
assert abs(seen["gradient_of_mean", True] - 1) < 1e-5
assert abs(seen["mean_of_gradients", False] - 1) < 1e-5
PY
