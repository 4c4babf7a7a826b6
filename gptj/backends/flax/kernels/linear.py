"""Matmuls with the weights of linear layers, on a CPU by blocks of a weight where that is faster.

XLA multiplies bfloat16 as it is where the processor can. Half precision that it would upcast goes
by blocks, and so does float32 with a few rows: without AVX-512 XLA reads it at a quarter of its
speed.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.kernels import half_precision
from gptj.backends.flax.kernels.half_precision import even_divisor, plain_matmul, rows_of
from gptj.backends.flax.kernels.platforms import on_cpu
from gptj.system.processor import instructions

Kernel: TypeAlias = Callable[[Array, Array], Array]
"""Multiplies (..., in) with a weight (in, out)."""

MIN_SPLIT_INPUTS: Final = {4: 512, 32: 1024}
"""Numbers of rows -> the fewest inputs that are multiplied together where XLA has a kernel.

It shares the work among threads by these slices, and by outputs; for more rows that is no gain.
"""

BLOCK_ROW_COUNTS: Final = range(3, 33)
"""Numbers of rows that float32 is multiplied with by blocks: 8 in 74 ms where XLA takes 138."""

MIN_UNCACHED_SIZE: Final = 2**18
"""Numbers in a float32 weight from which on it is read from memory, and not from a cache."""


def matmul(x: Array, weight: Array) -> Array:
    """Return (..., in) x (in, out) in the dtype of `x`."""
    return kernel_for(x, weight)(x, weight)


def kernel_for(x: Array, weight: Array) -> Kernel:
    """Return the kernel that multiplies `x` with a weight."""
    if weight.dtype == x.dtype and half_precision.is_native(weight.dtype) and rows_of(x) != 1:
        return _native_matmul
    if weight.dtype.itemsize == 2:
        return half_precision.matmul
    is_read_slowly = (
        weight.size >= MIN_UNCACHED_SIZE and rows_of(x) in BLOCK_ROW_COUNTS and _is_slow_with_few()
    )
    return half_precision.matmul if is_read_slowly else plain_matmul


def describe(dtype: str) -> str:
    """Describe what multiplies in a dtype on a CPU."""
    wide = half_precision.in_words(jnp.float32)
    if dtype == "float32":
        by_blocks = f"; for {BLOCK_ROW_COUNTS[0]} to {BLOCK_ROW_COUNTS[-1]} tokens {wide}"
        return "XLA" + (by_blocks if _is_slow_with_few() else "")
    own = "XLA" if half_precision.is_native(dtype) else f"XLA, {wide}"
    return f"{own}; {half_precision.describe_single_row()}"


def tied_matmul(x: Array, table: Array) -> Array:
    """Return (..., in) x (out, in) transposed, in the dtype of `x`."""
    multiply = kernel_for(x, table) if table.dtype.itemsize == 2 else plain_matmul
    return multiply(x, table.T)


def multiply_side_by_side(rows: Array, weight: Array, sums: DTypeLike) -> Array:
    """Return (M, in) x (in, out) of the same dtype in that of the sums, by slices of inputs."""
    count = rows_of(rows)
    size = next((size for most, size in MIN_SPLIT_INPUTS.items() if count <= most), len(weight))
    splits = even_divisor(len(weight), max(1, len(weight) // size))
    cut, weights = (
        rows.reshape(rows.shape[0], splits, -1),
        weight.reshape(splits, -1, weight.shape[1]),
    )
    # with the axes in any other order XLA does not see its kernel here, and upcasts the weight
    return jnp.einsum("mpi,pio->pmo", cut, weights, preferred_element_type=sums).sum(0)


def _is_slow_with_few() -> bool:
    return "avx512f" not in instructions()


def _matmul_natively(x: Array, weight: Array) -> Array:
    rows = x.reshape(-1, x.shape[-1])
    y = multiply_side_by_side(rows, weight, jnp.float32)
    return y.astype(x.dtype).reshape(*x.shape[:-1], -1)


_native_matmul = on_cpu(_matmul_natively, plain_matmul)
