"""Products with the kernels of linear layers, on a CPU by blocks of a kernel where that is faster.

XLA reads a float32 kernel at full speed for one row, and for a few rows at a quarter of it. Half
precision and int8 it would widen as a whole, see ``half``.
"""

import math
from typing import Any, Final

import jax
import jax.numpy as jnp

from gptj.backends.flax.half import bits_at, on_cpu

Array = Any

BLOCK: Final = 2**19
"""Numbers of a kernel that are multiplied at once: few enough for a processor's cache ..."""

LEAST_BLOCKS, LEAST_ROWS = 4, 32
"""... but small kernels come in no fewer blocks, and wide ones in blocks of no fewer rows."""

FEW: Final = range(3, 33)
"""Numbers of rows that float32 is multiplied with by blocks: 8 in 74 ms where XLA takes 138."""

LARGE: Final = 2**18
"""Numbers in a float32 kernel from which on it is read from memory, and not from a cache."""


def product(x: Array, kernel: Array) -> Array:
    """Return (..., in) x (in, out) in the dtype of `x`."""
    by_blocks = kernel.dtype.itemsize == 2 or (
        kernel.size >= LARGE and x.size // x.shape[-1] in FEW
    )
    return (_block_product if by_blocks else _product)(x, kernel)


def tied_product(x: Array, table: Array) -> Array:
    """Return (..., in) x (out, in) transposed, in the dtype of `x`."""
    return (_block_product if table.dtype.itemsize == 2 else _product)(x, table.T)


def add_up(x: Array, kernel: Array) -> Array:
    """Return (..., in) x (in, out) in float32, as the sum of products with blocks of rows.

    Each block is widened by itself.
    """
    blocks = block_count(*kernel.shape)
    size = len(kernel) // blocks
    wide = x.astype(jnp.float32)

    def add(block: Array, total: Array) -> Array:
        bits, start = bits_at(kernel, block * size)
        rows = jax.lax.dynamic_slice_in_dim(bits, start, size)
        rows = jax.lax.bitcast_convert_type(rows, kernel.dtype).astype(jnp.float32)
        return total + jax.lax.dynamic_slice_in_dim(wide, start, size, axis=-1) @ rows

    nothing = wide[..., :0] @ kernel[:0].astype(jnp.float32)  # zeros, of the type of all the sums
    return jax.lax.fori_loop(0, blocks, add, nothing)


def block_count(rows: int, width: int) -> int:
    """Return how many blocks of the same size a kernel comes in, a power of two."""
    wanted = max(LEAST_BLOCKS, min(rows * width // BLOCK, rows // LEAST_ROWS))
    return math.gcd(rows, 1 << (wanted.bit_length() - 1))


def describe(itemsize: int) -> str:
    """Return what multiplies with numbers of a size on a CPU."""
    few = f"; for {FEW[0]} to {FEW[-1]} tokens" if itemsize == 4 else ","
    return f"XLA{few} {BLOCK} numbers at a time"


def _product(x: Array, kernel: Array) -> Array:
    return x @ kernel.astype(x.dtype)


def _product_by_blocks(x: Array, kernel: Array) -> Array:
    return add_up(x, kernel).astype(x.dtype)


_block_product = on_cpu(_product_by_blocks, _product)
