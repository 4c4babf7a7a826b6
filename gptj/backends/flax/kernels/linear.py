"""Products with the kernels of linear layers, on a CPU by blocks of a kernel where that is faster.

XLA multiplies bfloat16 as it is where the processor can, if it may keep the sums in float32 and
there is more than one row. Any other half precision and int8 it would widen as a whole, see
``half``; and without AVX-512 it reads a float32 kernel at a quarter of its speed for a few rows.
A single row it multiplies with narrow numbers while it reads them, if told what to add to what.
"""

import math
from typing import Any, Final

import jax
import jax.numpy as jnp

from gptj.backends.flax.kernels.half_precision import bits_at
from gptj.backends.flax.kernels.platforms import on_cpu
from gptj.system.processor import instructions, multiplies_in

Array = Any

BLOCK_SIZE: Final = {jnp.float32: 2**19, jnp.bfloat16: 2**20}
"""Numbers of a kernel that are multiplied at once: few enough for a processor's cache ..."""

MIN_BLOCKS: Final = {jnp.float32: 4, jnp.bfloat16: 2}
MIN_BLOCK_ROWS = 32
"""... but small kernels come in no fewer blocks, and wide ones in blocks of no fewer rows."""

ROWS_SUMMED_TOGETHER: Final = 8
"""Rows of a kernel that are added up at once for a single row: XLA fuses no more than these reads.

With 200 million numbers of bfloat16 that takes 24 ms, where XLA's own products take 40.
"""

MIN_SPLIT_INPUTS: Final = {4: 512, 32: 1024}
"""Numbers of rows -> how many inputs at least are multiplied at once where XLA has a kernel.

It shares the work among threads by these parts, and by outputs; for more rows that is no gain.
"""

BLOCK_ROW_COUNTS: Final = range(3, 33)
"""Numbers of rows that float32 is multiplied with by blocks: 8 in 74 ms where XLA takes 138."""

MIN_UNCACHED_SIZE: Final = 2**18
"""Numbers in a float32 kernel from which on it is read from memory, and not from a cache."""


def matmul(x: Array, kernel: Array) -> Array:
    """Return (..., in) x (in, out) in the dtype of `x`."""
    return _operation(x, kernel)(x, kernel)


def tied_matmul(x: Array, table: Array) -> Array:
    """Return (..., in) x (out, in) transposed, in the dtype of `x`."""
    multiply = _operation(x, table) if table.dtype.itemsize == 2 else _matmul
    return multiply(x, table.T)


def matmul_per_head(x: Array, y: Array) -> Array:
    """Return (B, H, T, K) x (B, H, K, N) in float32."""
    return (_row_matmul if _is_alone(x) else _multiply)(x, y)


def similarity_per_head(x: Array, y: Array) -> Array:
    """Return (B, H, T, K) x (B, H, N, K) transposed, in float32; XLA would copy a transposed y."""
    return (_row_similarity if _is_alone(x) else _similarity)(x, y)


def multiply_side_by_side(rows: Array, kernel: Array, sums: Any) -> Array:
    """Return (M, in) x (in, out) of the same dtype in that of the sums, by parts of the inputs."""
    size = next((size for most, size in MIN_SPLIT_INPUTS.items() if len(rows) <= most), len(kernel))
    splits = even_divisor(len(kernel), max(1, len(kernel) // size))
    cut, kernels = rows.reshape(len(rows), splits, -1), kernel.reshape(splits, -1, kernel.shape[1])
    # with the axes in any other order XLA does not see its kernel here, and widens the weight
    return jnp.einsum("mpi,pio->pmo", cut, kernels, preferred_element_type=sums).sum(0)


def add_up(x: Array, kernel: Array) -> Array:
    """Return (..., in) x (in, out) in float32, as the sum of products with blocks of rows.

    Each block is widened by itself.
    """
    return (_add_up_row if rows_of(x) == 1 else _add_up_rows)(x, kernel)


def rows_of(x: Array) -> int:
    """Return how many rows an array (..., in) has."""
    return int(x.size // x.shape[-1])


def is_native(dtype: Any) -> bool:
    """Return whether XLA multiplies in a dtype of half precision as it is, on this CPU."""
    return jnp.dtype(dtype) == jnp.bfloat16 and multiplies_in("bfloat16")


def block_count(rows: int, width: int, dtype: Any) -> int:
    """Return how many blocks of the same size a kernel comes in, a power of two."""
    most = min(rows * width // BLOCK_SIZE[dtype], rows // MIN_BLOCK_ROWS)
    return even_divisor(rows, max(MIN_BLOCKS[dtype], most))


def even_divisor(rows: int, most: int) -> int:
    """Return in how many parts of the same size rows come, a power of two up to `most`."""
    return math.gcd(rows, 1 << (most.bit_length() - 1))


def describe(dtype: str) -> str:
    """Return what multiplies with numbers of a dtype on a CPU."""
    if dtype == "float32":
        by_blocks = (
            f"; for {BLOCK_ROW_COUNTS[0]} to {BLOCK_ROW_COUNTS[-1]} tokens {_in_words(jnp.float32)}"
        )
        return "XLA" + (by_blocks if _is_slow_with_few() else "")
    own = "XLA" if is_native(dtype) else f"XLA, {_in_words(jnp.float32)}"
    return f"{own}; {_one_in_words()}"


def describe_blocks() -> str:
    """Return what multiplies with numbers that are widened."""
    own = f"; in bfloat16, {_in_words(jnp.bfloat16)}" if is_native("bfloat16") else ""
    return f"XLA, {_in_words(jnp.float32)}{own}; {_one_in_words()}"


def _operation(x: Array, kernel: Array) -> Any:
    """Return what multiplies with a kernel on this machine."""
    if kernel.dtype == x.dtype and is_native(kernel.dtype) and rows_of(x) != 1:
        return _native_matmul
    if kernel.dtype.itemsize == 2:
        return _block_matmul
    is_read_slowly = (
        kernel.size >= MIN_UNCACHED_SIZE and rows_of(x) in BLOCK_ROW_COUNTS and _is_slow_with_few()
    )
    return _block_matmul if is_read_slowly else _matmul


def _add_up_rows(x: Array, kernel: Array) -> Array:
    dtype = jnp.bfloat16 if is_native(x.dtype) else jnp.float32
    rows, width = kernel.shape
    blocks = block_count(rows, width, dtype)
    size = rows // blocks
    wide = x.reshape(-1, rows).astype(dtype)

    def add(block: Array, total: Array) -> Array:
        bits, start = bits_at(kernel, block * size)
        bits = jax.lax.dynamic_slice_in_dim(bits, start, size)
        block_rows = jax.lax.bitcast_convert_type(bits, kernel.dtype).astype(dtype)
        inputs = jax.lax.dynamic_slice_in_dim(wide, start, size, axis=1)
        return total + _multiply(inputs, block_rows)

    nothing = _multiply(wide[:, :0], kernel[:0].astype(dtype))  # zeros, as all the sums are
    return jax.lax.fori_loop(0, blocks, add, nothing).reshape(*x.shape[:-1], width)


def _add_up_row(x: Array, kernel: Array) -> Array:
    """Return the product with a single row, which XLA computes while it reads the kernel, once.

    A block is `together` parts of G inputs, which are added to G sums of every output. Each part is
    read from its start to its end, as a processor that reads ahead wants it.
    """
    inputs, width = kernel.shape
    together = even_divisor(inputs, ROWS_SUMMED_TOGETHER)
    groups = inputs // together
    # nothing is widened in the cache, so that blocks are as large as bfloat16's
    least = MIN_BLOCKS[jnp.float32]
    blocks = math.gcd(groups, max(least, block_count(inputs, width, jnp.bfloat16)))
    size = groups // blocks  # G
    row = x.astype(jnp.float32).reshape(blocks, together, size, 1)

    def add(block: Array, sums: Array) -> Array:
        bits, start = bits_at(kernel, block)
        bits = bits.reshape(blocks, together, size, width)
        for place in range(together):
            block_rows = jax.lax.dynamic_slice(bits, (start, place, 0, 0), (1, 1, size, width))[
                0, 0
            ]
            wide = jax.lax.bitcast_convert_type(block_rows, kernel.dtype).astype(jnp.float32)
            sums = sums + row[block, place] * wide
        return sums

    nothing = row[0, 0, :, :0] @ kernel[:0].astype(jnp.float32)  # zeros, as the sums are
    sums = jax.lax.fori_loop(0, blocks, add, nothing)  # (G, out)
    return (jnp.ones((1, size), jnp.float32) @ sums).reshape(*x.shape[:-1], width)


def _in_words(dtype: Any) -> str:
    return f"{BLOCK_SIZE[dtype]} numbers at a time"


def _one_in_words() -> str:
    return f"for one token {_in_words(jnp.bfloat16)}"


def _is_slow_with_few() -> bool:
    return "avx512f" not in instructions()


def _multiply_row(x: Array, y: Array) -> Array:
    return _multiply(_two_at_least(x), y)[..., :1, :]


def _is_alone(x: Array) -> bool:
    """Return whether (..., T, K) is a single row, of numbers that XLA multiplies as they are."""
    return x.shape[-2] == 1 and is_native(x.dtype)


def _two_at_least(x: Array) -> Array:
    """Return (..., T, K) with a row of zeros after a single one, for which XLA would widen all."""
    missing = max(0, 2 - x.shape[-2])
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, missing), (0, 0)])


def _multiply(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, preferred_element_type=jnp.float32)


def _similarity(x: Array, y: Array) -> Array:
    return jnp.einsum("bhtk,bhnk->bhtn", x, y, preferred_element_type=jnp.float32)


def _similarity_of_row(x: Array, y: Array) -> Array:
    return _similarity(_two_at_least(x), y)[..., :1, :]


def _matmul(x: Array, kernel: Array) -> Array:
    return x @ kernel.astype(x.dtype)


def _matmul_by_blocks(x: Array, kernel: Array) -> Array:
    return add_up(x, kernel).astype(x.dtype)


def _matmul_natively(x: Array, kernel: Array) -> Array:
    rows = x.reshape(-1, x.shape[-1])
    y = multiply_side_by_side(rows, kernel, jnp.float32)
    return y.astype(x.dtype).reshape(*x.shape[:-1], -1)


_block_matmul = on_cpu(_matmul_by_blocks, _matmul)
_native_matmul = on_cpu(_matmul_natively, _matmul)
_row_matmul = on_cpu(_multiply_row, _multiply)
_row_similarity = on_cpu(_similarity_of_row, _similarity)
