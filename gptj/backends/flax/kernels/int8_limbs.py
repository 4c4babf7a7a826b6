"""Products with int8 weights on processors that multiply int8 themselves: ``gptj.spec.digits``."""

from typing import Any, Final

import jax.numpy as jnp

from gptj.backends.flax.kernels.matmul import multiply_side_by_side, rows_of
from gptj.spec.digits import BASE, DIGITS, LEAST, MOST_INPUTS, SMALLEST_DIGIT, largest
from gptj.system.processor import multiplies_in

Array = Any

FEW: Final = range(2, 33)
"""Numbers of tokens for which this is faster than blocks."""


def serves(x: Array) -> bool:
    """Return whether this is the fastest way to multiply (..., in) with int8 on this CPU."""
    return multiplies_in("int8") and rows_of(x) in FEW and x.shape[-1] <= MOST_INPUTS


def describe() -> str:
    """Return for how many tokens this is taken on this machine's CPU, or nothing."""
    return f"int8 by int8 for {FEW[0]} to {FEW[-1]} tokens" if multiplies_in("int8") else ""


def product(x: Array, weight: Array) -> Array:
    """Return (N, in) x (in, out) int8 in float32."""
    digits, step = split(x, DIGITS[x.dtype.name])
    rows = digits.reshape(-1, x.shape[1])  # (count * N, in)
    sums = multiply_side_by_side(rows, weight, jnp.int32)
    places = sums.reshape(len(digits), len(x), -1).astype(jnp.float32)
    return step * sum(float(BASE**place) * part for place, part in enumerate(places))


def split(x: Array, count: int) -> tuple[Array, Array]:
    """Return the digits of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    wide = x.astype(jnp.float32)
    step = jnp.maximum(jnp.abs(wide).max(axis=-1, keepdims=True), LEAST) / largest(count)
    rest, digits = jnp.rint(wide / step).astype(jnp.int32), []
    for _ in range(count):
        digit = (rest - SMALLEST_DIGIT) % BASE + SMALLEST_DIGIT
        digits.append(digit.astype(jnp.int8))
        rest = (rest - digit) // BASE
    return jnp.stack(digits), step
