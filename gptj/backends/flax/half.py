"""Half-precision parameters on a CPU, none of which is ever in memory in float32 as a whole.

XLA's CPU kernels compute in float32. Left alone, it widens all such parameters before the first
product, or before a loop, so that the model is in memory three times. Other platforms, and all
derivatives, take the plain path.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp

Array = Any
Operation = Callable[..., Array]

BLOCKS: Final = 32
"""How many parts of a kernel are widened one by one: more are faster for one token, and slower for
hundreds."""

BITS: Final = {1: jnp.uint8, 2: jnp.uint16}
"""Size of a number -> the dtype of its bits."""


def product(x: Array, kernel: Array) -> Array:
    """Return (..., in) x (in, out) in the dtype of `x`."""
    return (_half_product if kernel.dtype.itemsize == 2 else _product)(x, kernel)


def add_up(x: Array, kernel: Array, count: int) -> Array:
    """Return (..., in) x (in, out) in float32, as the sum of products with `count` blocks of rows.

    Each block is widened by itself.
    """
    blocks = math.gcd(len(kernel), count)
    size = len(kernel) // blocks
    wide = x.astype(jnp.float32)

    def add(block: Array, total: Array) -> Array:
        bits, start = _bits(kernel, block * size)
        rows = jax.lax.dynamic_slice_in_dim(bits, start, size)
        rows = jax.lax.bitcast_convert_type(rows, kernel.dtype).astype(jnp.float32)
        return total + jax.lax.dynamic_slice_in_dim(wide, start, size, axis=-1) @ rows

    nothing = wide[..., :0] @ kernel[:0].astype(jnp.float32)  # zeros, of the type of all the sums
    return jax.lax.fori_loop(0, blocks, add, nothing)


def on_cpu(operation: Operation, plain: Operation) -> Operation:
    """Return `operation` for a CPU and `plain` for the rest; its derivative is that of `plain`."""

    @jax.custom_jvp
    def either(*arguments: Array) -> Array:
        return jax.lax.platform_dependent(*arguments, cpu=operation, default=plain)

    @either.defjvp
    def jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
        return either(*primals), jax.jvp(plain, primals, tangents)[1]

    return either


def look_up(table: Array, ids: Array) -> Array:
    """Return the rows of a table (V, E) for ids of any shape."""
    return (_half_look_up if table.dtype.itemsize == 2 else _look_up)(table, ids)


def _product(x: Array, kernel: Array) -> Array:
    return x @ kernel.astype(x.dtype)


def _product_by_blocks(x: Array, kernel: Array) -> Array:
    return add_up(x, kernel, BLOCKS).astype(x.dtype)


def _look_up(table: Array, ids: Array) -> Array:
    return table[ids]


def _look_up_bits(table: Array, ids: Array) -> Array:
    bits, ids = _bits(table, ids)
    return jax.lax.bitcast_convert_type(bits[ids], table.dtype)


def _bits(parameter: Array, place: Array) -> tuple[Array, Array]:
    """Return the bits of a parameter, and unchanged the place where it is going to be read.

    XLA would widen bfloat16 even to select from it; and before a loop, were it not for the barrier,
    compute all that does not depend on the place.
    """
    parameter, place = jax.lax.optimization_barrier((parameter, place))
    return jax.lax.bitcast_convert_type(parameter, BITS[parameter.dtype.itemsize]), place


_half_product = on_cpu(_product_by_blocks, _product)
_half_look_up = on_cpu(_look_up_bits, _look_up)
