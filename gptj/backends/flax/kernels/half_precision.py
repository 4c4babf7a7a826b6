"""Matmuls on a CPU with weights (in, out) that XLA would read slowly or upcast whole, by blocks.

XLA multiplies bfloat16 as it is where the processor can, if it may keep the sums in float32 and
there is more than one row. Any other half precision and int8 it would upcast whole, see ``bits``.
A single row it multiplies with them while it reads them, if the additions are spelled out.
"""

import math
import sys
from typing import Final

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.kernels.bits import bits_at, from_bits
from gptj.backends.flax.kernels.platforms import on_cpu
from gptj.system.processor import multiplies_in

BLOCK_SIZE: Final = {jnp.float32: 2**19, jnp.bfloat16: 2**20}
"""Numbers of a weight that are multiplied at a time: few enough for a processor's cache ..."""

MIN_BLOCKS: Final = {jnp.float32: 4, jnp.bfloat16: 2}
MIN_BLOCK_ROWS = 32
"""... but small weights come in no fewer blocks, and wide ones in blocks of no fewer rows."""

ROWS_SUMMED_TOGETHER: Final = 8
"""Rows of a weight that are added up together for a single row: XLA fuses no more reads.

With 200 million numbers of bfloat16 that takes 24 ms, where XLA's own matmuls take 40.
"""


def is_native(dtype: DTypeLike) -> bool:
    """Return whether XLA multiplies in a dtype of half precision as it is, on this CPU."""
    return jnp.dtype(dtype) == jnp.bfloat16 and multiplies_in("bfloat16")


def upcast_dtype(x: Array) -> DTypeLike:
    """Return the dtype that weights are upcast to for `x`: its own bfloat16 if it is native."""
    return jnp.bfloat16 if is_native(x.dtype) else jnp.float32


def matmul(x: Array, weight: Array) -> Array:
    """Return (..., in) x (in, out) in the dtype of `x`, with sums in float32."""
    return _block_matmul(x, weight)


def by_blocks(x: Array, weight: Array) -> Array:
    """Return (..., in) x (in, out) in float32, as the sum of matmuls with blocks of rows.

    Each block is upcast alone.
    """
    return (_add_up_row if rows_of(x) == 1 else _add_up_rows)(x, weight)


def multiply(x: Array, block: Array) -> Array:
    """Return (..., in) x (..., in, out) of the same dtype in float32."""
    return jnp.matmul(x, block, preferred_element_type=jnp.float32)


def rows_of(x: Array) -> int:
    """Return the number of rows of an array (..., in): many where ``jax.export`` leaves it open."""
    rows = x.size // x.shape[-1]
    return rows if isinstance(rows, int) else sys.maxsize


def describe_blocks() -> str:
    """Describe how weights are upcast."""
    own = f"; in bfloat16, {in_words(jnp.bfloat16)}" if is_native("bfloat16") else ""
    return f"XLA, {in_words(jnp.float32)}{own}; {describe_single_row()}"


def in_words(dtype: DTypeLike) -> str:
    """Describe the blocks of a dtype."""
    return f"{BLOCK_SIZE[dtype]} numbers at a time"


def describe_single_row() -> str:
    """Describe how a single row is multiplied."""
    return f"for one token {in_words(jnp.bfloat16)}"


def plain_matmul(x: Array, weight: Array) -> Array:
    """Return (..., in) x (in, out) by XLA's own matmul, in the dtype of `x`."""
    return x @ weight.astype(x.dtype)


def block_count(rows: int, width: int, dtype: DTypeLike) -> int:
    """Return the number of blocks of one size that a weight comes in, a power of two."""
    most = min(rows * width // BLOCK_SIZE[dtype], rows // MIN_BLOCK_ROWS)
    return even_divisor(rows, max(MIN_BLOCKS[dtype], most))


def even_divisor(rows: int, most: int) -> int:
    """Return the largest power of two, up to `most`, that divides the rows."""
    return math.gcd(rows, 1 << (most.bit_length() - 1))


def _add_up_rows(x: Array, weight: Array) -> Array:
    dtype = upcast_dtype(x)
    rows, width = weight.shape
    blocks = block_count(rows, width, dtype)
    size = rows // blocks
    wide = x.reshape(-1, rows).astype(dtype)

    def add(block: Array, total: Array) -> Array:
        bits, start = bits_at(weight, block * size)
        block_rows = from_bits(jax.lax.dynamic_slice_in_dim(bits, start, size)).astype(dtype)
        inputs = jax.lax.dynamic_slice_in_dim(wide, start, size, axis=1)
        return total + multiply(inputs, block_rows)

    nothing = multiply(wide[:, :0], weight[:0].astype(dtype))  # zeros, as all the sums are
    return jax.lax.fori_loop(0, blocks, add, nothing).reshape(*x.shape[:-1], width)


def _add_up_row(x: Array, weight: Array) -> Array:
    """Return the matmul of a single row, which XLA computes while it reads the weight, once.

    A block is `together` slices of G inputs, which are added to G sums of every output. Each slice
    is read from its start to its end, as a processor that reads ahead wants it.
    """
    inputs, width = weight.shape
    together = even_divisor(inputs, ROWS_SUMMED_TOGETHER)
    groups = inputs // together
    # nothing is upcast in the cache, so that blocks are as large as bfloat16's
    least = MIN_BLOCKS[jnp.float32]
    blocks = math.gcd(groups, max(least, block_count(inputs, width, jnp.bfloat16)))
    size = groups // blocks  # G
    row = x.astype(jnp.float32).reshape(blocks, together, size, 1)

    def add(block: Array, sums: Array) -> Array:
        bits, start = bits_at(weight, block)
        bits = bits.reshape(blocks, together, size, width)
        for place in range(together):
            begin, length = (start, place, 0, 0), (1, 1, size, width)
            block_rows = jax.lax.dynamic_slice(bits, begin, length)[0, 0]
            sums = sums + row[block, place] * from_bits(block_rows).astype(jnp.float32)
        return sums

    nothing = row[0, 0, :, :0] @ weight[:0].astype(jnp.float32)  # zeros, as the sums are
    sums = jax.lax.fori_loop(0, blocks, add, nothing)  # (G, out)
    return (jnp.ones((1, size), jnp.float32) @ sums).reshape(*x.shape[:-1], width)


def _matmul_by_blocks(x: Array, weight: Array) -> Array:
    return by_blocks(x, weight).astype(x.dtype)


_block_matmul = on_cpu(_matmul_by_blocks, plain_matmul)
