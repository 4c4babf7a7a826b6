"""Half-precision matmuls on a CPU, and those whose weight is upcast by blocks of rows.

Without instructions for half precision, PyTorch's kernels compute a matmul with a transposed
weight, which every derivative needs, a hundred times slower than in float32, and one with many
tokens five times slower. Here the weight is upcast block by block, and the sums are those of
float32. A few tokens stay with PyTorch, which streams the weight at full speed for them.
"""

from collections.abc import Iterator
from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.backends.torch.kernels.float32 import PYTORCH, Kernel, float32

BLOCK_SIZE: Final = {torch.float32: 1 << 20, torch.bfloat16: 1 << 22}
"""Numbers of a weight that are upcast at a time: 4 and 8 MB, which stay in the cache."""

MAX_PYTORCH_TOKENS: Final = 3
"""Up to so many tokens PyTorch's own matmul is faster."""


@cache
def is_native(dtype: torch.dtype) -> bool:
    """Return whether this CPU multiplies in a dtype; PyTorch is trusted where nothing is known."""
    known = {
        torch.bfloat16: "_is_mkldnn_bf16_supported",
        torch.float16: "_is_mkldnn_fp16_supported",
    }
    ask = getattr(torch.ops.mkldnn, known[dtype], None) if dtype in known else None
    return ask is None or bool(ask())


def upcast_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that weights are upcast to for `x`: its own bfloat16 if it is native."""
    is_own = x.dtype == torch.bfloat16 and is_native(x.dtype)
    return torch.bfloat16 if is_own else torch.float32


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., in) x (out, in) + (out,), with sums in float32."""
    if rows_of(x) <= MAX_PYTORCH_TOKENS:
        return F.linear(x, weight, bias)
    y = by_blocks(x.float(), weight)
    return (y if bias is None else y + bias).to(x.dtype)


def by_blocks(x: Tensor, weight: Tensor) -> Tensor:
    """Return (..., in) x (out, in) in `upcast_dtype`; the upcast weight is never whole."""
    dtype = upcast_dtype(x)
    wide = x.to(dtype)
    return torch.cat([multiply(wide, block) for _, block in _blocks(weight, dtype)], dim=-1)


def multiply(x: Tensor, block: Tensor) -> Tensor:
    """Return (..., in) x (rows, in), which are both in the same dtype."""
    rows = rows_of(x)
    kernel = float32(rows) if x.dtype == torch.float32 else native(x.dtype, rows)
    return kernel.forward(x, block, None)


def rows_of(x: Tensor) -> int:
    """Return the number of rows of a tensor (..., in)."""
    return x.numel() // max(x.shape[-1], 1)


def describe_blocks(kernel: str) -> str:
    """Describe how weights are upcast, and a kernel for few tokens in bfloat16 if there is one."""
    wide = in_words(torch.float32)
    few = f"{kernel}, then " if kernel else ""
    if is_native(torch.bfloat16):
        return f"{wide}; in bfloat16, {few}{in_words(torch.bfloat16)}"
    return f"{wide}; in bfloat16, {kernel}" if kernel else wide


def in_words(dtype: torch.dtype) -> str:
    """Describe the blocks of a dtype."""
    return f"{BLOCK_SIZE[dtype]} numbers at a time in {str(dtype).removeprefix('torch.')}"


def native(dtype: torch.dtype, rows: int) -> Kernel:
    """Return the kernel for a number of rows in a dtype that the CPU multiplies in."""
    return VECTOR if dtype == torch.bfloat16 and rows == 1 else PYTORCH


def matvec(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., in) x (out, in) + (out,) for a single row."""
    y = torch.mv(weight, x.reshape(-1)).view(*x.shape[:-1], len(weight))
    return y if bias is None else y + bias


def input_gradient(rows: Tensor, weight: Tensor) -> Tensor:
    """Return (N, out) x (out, in), with sums in float32."""
    wide = rows.float()
    y = wide.new_zeros((len(rows), weight.shape[1]))
    for start, block in _blocks(weight, torch.float32):
        y.addmm_(wide[:, start : start + len(block)], block)
    return y.to(rows.dtype)


def weight_gradient(rows: Tensor, x: Tensor) -> Tensor:
    """Return (N, out) transposed x (N, in), with sums in float32."""
    return float32(len(rows)).to_weight(rows.float(), x.float()).to(rows.dtype)


def _blocks(weight: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of rows in a dtype, and where each begins; the next one overwrites the last."""
    size = max(1, min(BLOCK_SIZE[dtype] // weight.shape[1], len(weight)))
    # once: allocating memory takes longer than the matmul
    wide = weight.new_empty((size, weight.shape[1]), dtype=dtype)
    for start in range(0, len(weight), size):
        rows = weight[start : start + size]
        yield start, wide[: len(rows)].copy_(rows)


BLOCKS: Final = Kernel("blocks", matmul, input_gradient, weight_gradient)

VECTOR: Final = Kernel("vector", matvec, PYTORCH.to_inputs, PYTORCH.to_weight)
"""For a single row in native bfloat16: 10 billion weights a second, where PyTorch's linear layer
multiplies with 7. In float16 it is the other way round."""
