"""Half-precision parameters as their bits, so that XLA never holds them whole in float32.

XLA's CPU kernels compute in float32. Left alone, XLA upcasts all such parameters before the first
matmul, or before a loop, so that the model is in memory three times. It leaves integers alone, so
it is given the bits of the numbers instead. Other platforms, and all derivatives, take the plain
path.
"""

from typing import Final

import jax
import jax.numpy as jnp
from jax import Array

from gptj.backends.flax.kernels.platforms import on_cpu

BITS_OF_DTYPE: Final = {jnp.dtype(jnp.bfloat16): jnp.uint16, jnp.dtype(jnp.float16): jnp.int16}
"""Dtype -> the integers that its bits are given as, which tell the two apart."""

DTYPE_OF_BITS: Final = {jnp.dtype(bits): numbers for numbers, bits in BITS_OF_DTYPE.items()}


def as_bits(matrix: Array) -> Array:
    """Return the bits of a matrix in half precision, without a copy, and any other as it is."""
    if matrix.dtype not in BITS_OF_DTYPE:
        return matrix
    return jax.lax.bitcast_convert_type(matrix, BITS_OF_DTYPE[matrix.dtype])


def from_bits(rows: Array) -> Array:
    """Return rows of a matrix as numbers."""
    if rows.dtype not in DTYPE_OF_BITS:
        return rows
    return jax.lax.bitcast_convert_type(rows, DTYPE_OF_BITS[rows.dtype])


def bits_at(parameter: Array, place: Array) -> tuple[Array, Array]:
    """Return a parameter as `as_bits`, and unchanged the place where it is going to be read.

    XLA would upcast bfloat16 even to select from it. And before a loop it would compute all that
    does not depend on the place, were it not for the barrier.
    """
    parameter, place = jax.lax.optimization_barrier((parameter, place))
    return as_bits(parameter), place


def look_up(table: Array, ids: Array) -> Array:
    """Return the rows of a table (V, E) for ids of any shape."""
    return (_half_look_up if table.dtype in BITS_OF_DTYPE else _look_up)(table, ids)


def _look_up(table: Array, ids: Array) -> Array:
    return table[ids]


def _look_up_bits(table: Array, ids: Array) -> Array:
    bits, ids = bits_at(table, ids)
    return from_bits(bits[ids])


_half_look_up = on_cpu(_look_up_bits, _look_up)
