"""Matmuls of attention, which are done per head.

A single row of native bfloat16 XLA would upcast, with all that it is multiplied with: it is given
a row of zeros beside it.
"""

import jax.numpy as jnp
from jax import Array

from gptj.backends.flax.kernels.half_precision import is_native, multiply
from gptj.backends.flax.kernels.platforms import on_cpu


def matmul_per_head(x: Array, y: Array) -> Array:
    """Return (B, H, T, K) x (B, H, K, N) in float32."""
    return (_row_matmul if _is_alone(x) else multiply)(x, y)


def similarity_per_head(x: Array, y: Array) -> Array:
    """Return (B, H, T, K) x (B, H, N, K) transposed, in float32; XLA would copy a transposed y."""
    return (_row_similarity if _is_alone(x) else _similarity)(x, y)


def _is_alone(x: Array) -> bool:
    """Return whether (..., T, K) is a single row, of numbers that XLA multiplies as they are."""
    return x.shape[-2] == 1 and is_native(x.dtype)


def _two_at_least(x: Array) -> Array:
    """Return (..., T, K) with a row of zeros after a single one."""
    missing = max(0, 2 - x.shape[-2])
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, missing), (0, 0)])


def _multiply_row(x: Array, y: Array) -> Array:
    return multiply(_two_at_least(x), y)[..., :1, :]


def _similarity(x: Array, y: Array) -> Array:
    return jnp.einsum("bhtk,bhnk->bhtn", x, y, preferred_element_type=jnp.float32)


def _similarity_of_row(x: Array, y: Array) -> Array:
    return _similarity(_two_at_least(x), y)[..., :1, :]


_row_matmul = on_cpu(_multiply_row, multiply)
_row_similarity = on_cpu(_similarity_of_row, _similarity)
