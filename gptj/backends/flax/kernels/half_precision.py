"""Half-precision parameters on a CPU, none of which is ever in memory in float32 as a whole.

XLA's CPU kernels compute in float32. Left alone, it widens all such parameters before the first
product, or before a loop, so that the model is in memory three times. Other platforms, and all
derivatives, take the plain path.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gptj.backends.flax.kernels.platforms import on_cpu

Array = Any


def look_up(table: Array, ids: Array) -> Array:
    """Return the rows of a table (V, E) for ids of any shape."""
    return (_half_look_up if table.dtype.itemsize == 2 else _look_up)(table, ids)


def bits_at(parameter: Array, place: Array) -> tuple[Array, Array]:
    """Return a parameter, and unchanged the place where it is going to be read.

    Half precision comes as its bits: XLA would widen bfloat16 even to select from it. And before a
    loop it would compute all that does not depend on the place, were it not for the barrier.
    """
    parameter, place = jax.lax.optimization_barrier((parameter, place))
    if parameter.dtype.itemsize == 2:
        parameter = jax.lax.bitcast_convert_type(parameter, jnp.uint16)
    return parameter, place


def _look_up(table: Array, ids: Array) -> Array:
    return table[ids]


def _look_up_bits(table: Array, ids: Array) -> Array:
    bits, ids = bits_at(table, ids)
    return jax.lax.bitcast_convert_type(bits[ids], table.dtype)


_half_look_up = on_cpu(_look_up_bits, _look_up)
