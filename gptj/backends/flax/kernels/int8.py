"""Matmuls with int8 weights. What the numbers mean: ``gptj.spec.quantizers``."""

from typing import Any

import jax.numpy as jnp

from gptj.backends.flax.kernels import int8_limbs, linear
from gptj.backends.flax.kernels.platforms import on_cpu

Array = Any


def matmul(x: Array, weight: Array, scale: Array) -> Array:
    """Return (..., in) x (in, out) int8, times a scale per output, (..., out), as `x` in dtype.

    Gradients reach `x`, as those of an adapter further down have to.
    """
    return _matmul(x, weight, scale)


def by_blocks(x: Array, weight: Array, scale: Array) -> Array:
    """Return the product with float32 sums, where no widened copy of the weight is ever whole."""
    row = scale.reshape((1,) * (x.ndim - 1) + (-1,))  # ranks are never promoted silently
    return (linear.add_up(x, weight) * row).astype(x.dtype)


def by_limbs(x: Array, weight: Array, scale: Array) -> Array:
    """Return the product with exact sums, by digits of `x`."""
    y = int8_limbs.matmul(x.reshape(-1, x.shape[-1]), weight)  # (N, out)
    return (y * scale.reshape(1, -1)).astype(x.dtype).reshape(*x.shape[:-1], -1)


def by_definition(x: Array, weight: Array, scale: Array) -> Array:
    """Return the product by the definition, which XLA fuses on an accelerator, but not on a CPU."""
    return x @ dequantized(weight, scale, x.dtype)


def dequantized(weight: Array, scale: Array, dtype: Any) -> Array:
    """Return what int8 numbers and scales mean, (in, out)."""
    return (weight.astype(jnp.float32) * scale.reshape(1, -1)).astype(dtype)


def describe() -> str:
    """Return in words what multiplies with int8 weights on this machine's CPU."""
    return "; else ".join(filter(None, (int8_limbs.describe(), linear.describe_blocks())))


def _on_cpu(x: Array, weight: Array, scale: Array) -> Array:
    return (by_limbs if int8_limbs.serves(x) else by_blocks)(x, weight, scale)


_matmul = on_cpu(_on_cpu, by_definition)
