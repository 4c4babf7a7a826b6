"""Matmuls with int8 weights on processors that multiply int8: see ``gptj.spec.int8_limbs``."""

from typing import Final

import jax.numpy as jnp
from jax import Array

from gptj.backends.flax.kernels.half_precision import rows_of
from gptj.backends.flax.kernels.linear import multiply_side_by_side
from gptj.spec.int8_limbs import (
    BASE,
    LIMB_COUNTS,
    MAX_INPUTS,
    SMALLEST_LIMB,
    SMALLEST_MAXIMUM,
    largest_number,
)
from gptj.system.processor import multiplies_in

LIMB_TOKEN_COUNTS: Final = range(2, 33)
"""Numbers of tokens for which this is faster than blocks."""


def serves(x: Array) -> bool:
    """Return whether this is the fastest way to multiply (..., in) with int8 on this CPU."""
    return multiplies_in("int8") and rows_of(x) in LIMB_TOKEN_COUNTS and x.shape[-1] <= MAX_INPUTS


def describe() -> str:
    """Describe the numbers of tokens that this is taken for on this machine's CPU, if any."""
    return (
        f"int8 by int8 for {LIMB_TOKEN_COUNTS[0]} to {LIMB_TOKEN_COUNTS[-1]} tokens"
        if multiplies_in("int8")
        else ""
    )


def matmul(x: Array, weight: Array) -> Array:
    """Return (N, in) x (in, out) int8 in float32."""
    limbs, step = split_limbs(x, LIMB_COUNTS[x.dtype.name])
    rows = limbs.reshape(-1, x.shape[1])  # (count * N, in)
    sums = multiply_side_by_side(rows, weight, jnp.int32)
    places = sums.reshape(len(limbs), len(x), -1).astype(jnp.float32)
    return step * sum(float(BASE**place) * limb_sums for place, limb_sums in enumerate(places))


def split_limbs(x: Array, count: int) -> tuple[Array, Array]:
    """Return the limbs of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    wide = x.astype(jnp.float32)
    step = jnp.maximum(
        jnp.abs(wide).max(axis=-1, keepdims=True), SMALLEST_MAXIMUM
    ) / largest_number(count)
    rest, limbs = jnp.rint(wide / step).astype(jnp.int32), []
    for _ in range(count):
        limb = (rest - SMALLEST_LIMB) % BASE + SMALLEST_LIMB
        limbs.append(limb.astype(jnp.int8))
        rest = (rest - limb) // BASE
    return jnp.stack(limbs), step
