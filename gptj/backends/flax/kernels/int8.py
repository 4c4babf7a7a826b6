"""Matmuls with int8 weights. What the numbers mean: ``gptj.spec.quantizers``."""

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.kernels import half_precision, int8_limbs
from gptj.backends.flax.kernels.platforms import on_cpu


def matmul(x: Array, weight: Array, scale: Array) -> Array:
    """Return (..., in) x (in, out) int8, times a scale per output, (..., out), in the dtype of `x`.

    Gradients reach `x`, for an adapter of an earlier layer.
    """
    return _matmul(x, weight, scale)


def by_blocks(x: Array, weight: Array, scale: Array) -> Array:
    """Return the matmul with float32 sums; the dequantized weight is never whole."""
    row = scale.reshape((1,) * (x.ndim - 1) + (-1,))  # ranks are never promoted silently
    return (half_precision.by_blocks(x, weight) * row).astype(x.dtype)


def by_limbs(x: Array, weight: Array, scale: Array) -> Array:
    """Return the matmul with exact sums, by int8 limbs of `x`."""
    y = int8_limbs.matmul(x.reshape(-1, x.shape[-1]), weight)  # (N, out)
    return (y * scale.reshape(1, -1)).astype(x.dtype).reshape(*x.shape[:-1], -1)


def by_definition(x: Array, weight: Array, scale: Array) -> Array:
    """Return the matmul by the definition, which XLA fuses on an accelerator, but not on a CPU."""
    return x @ dequantized(weight, scale, x.dtype)


def dequantized(weight: Array, scale: Array, dtype: DTypeLike) -> Array:
    """Return the weight of stored numbers and scales, (in, out)."""
    return (weight.astype(jnp.float32) * scale.reshape(1, -1)).astype(dtype)


def describe() -> str:
    """Describe the kernels that multiply with int8 weights on this machine's CPU."""
    return "; else ".join(filter(None, (int8_limbs.describe(), half_precision.describe_blocks())))


def _by_fastest(x: Array, weight: Array, scale: Array) -> Array:
    """Return the matmul by the fastest way for these tensors on a CPU."""
    return (by_limbs if int8_limbs.serves(x) else by_blocks)(x, weight, scale)


_matmul = on_cpu(_by_fastest, by_definition)
