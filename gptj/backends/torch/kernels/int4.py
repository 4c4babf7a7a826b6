"""Matmuls with int4 weights. What the numbers mean: ``gptj.spec.quantizers``.

A weight is stored as in the files, or in the layout of PyTorch's kernel: see ``int4_layout``.
"""

from collections.abc import Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.backends.torch.kernels import half_precision
from gptj.backends.torch.kernels.float32 import trial
from gptj.backends.torch.kernels.half_precision import rows_of
from gptj.backends.torch.kernels.int4_layout import (
    PACKED_ROWS,
    from_kernel,
    is_for_kernel,
    numbers_of,
    to_kernel,
)
from gptj.spec.quantizers import GROUP

MAX_INT4_KERNEL_TOKENS: Final = 64
"""Up to so many tokens the kernel is faster; it unpacks the weight again for every few of them.

On one core with AVX2, in bfloat16, it multiplies one token with 6 billion weights a second, where
blocks take 1.5 billion in the layout of files and 0.6 in the kernel's; with 64 tokens it is as fast
as blocks in its layout, with 256 half as fast. In float32, for which it has no vector instructions,
it takes 0.5 billion: so it is for bfloat16 alone.
"""


def matmul(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return (..., in) x stored (out, in), with scales (out, in / GROUP), in the dtype of `x`."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return by_definition(x, weight, scale)
    if is_for_kernel(weight) and x.dtype == torch.bfloat16 and rows_of(x) <= MAX_INT4_KERNEL_TOKENS:
        return by_kernel(x, weight, scale)
    return by_blocks(x, weight, scale)


def by_blocks(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul with float32 sums; the dequantized weight is never whole."""
    dtype = half_precision.upcast_dtype(x)
    wide = x.to(dtype)
    blocks = [half_precision.multiply(wide, block) for block in _blocks(weight, scale, dtype)]
    return torch.cat(blocks, dim=-1).to(x.dtype)


def by_kernel(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul by PyTorch's private kernel, which rounds scales to the dtype of `x`."""
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    columns = scale.t().to(x.dtype)  # (groups, out)
    scales_and_zeros = torch.stack((columns, torch.zeros_like(columns)), dim=-1)
    bytes_of_rows = weight.view(len(scale), -1)
    y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
        rows, bytes_of_rows, GROUP, scales_and_zeros
    )
    return y.view(*x.shape[:-1], len(scale))


def by_definition(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul by the definition, which costs a GPU or compiled code nothing."""
    return F.linear(x, dequantized(weight, scale, x.dtype))


def dequantized(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of stored numbers and scales, (out, in)."""
    numbers = numbers_of(weight, len(scale)).view(len(scale), -1, GROUP)
    return (numbers * scale[:, :, None]).flatten(1).to(dtype)


def arranged(weight: Tensor, dtype: str) -> Tensor:
    """Return a stored weight (out, in / 2) in the fastest layout for matmuls in `dtype`."""
    is_fit = dtype == "bfloat16" and weight.device.type == "cpu" and has_kernel()
    return to_kernel(weight) if is_fit and len(weight) % PACKED_ROWS == 0 else weight


@trial
def has_kernel() -> bool:
    """Return whether PyTorch has the private kernel, its layout is known, and it is right."""
    if not PACKED_ROWS:
        return False
    shape = (2 * PACKED_ROWS, GROUP)
    weight = (torch.arange(shape[0] * shape[1]) * 37 % 251).to(torch.uint8).view(shape)
    scale = torch.tensor((1.0, 0.5)).expand(shape[0], 2)
    x = torch.zeros(1, 2 * GROUP, dtype=torch.bfloat16)
    x[0, 3] = x[0, -7] = 1.0  # so that no sum is rounded
    packed = to_kernel(weight)
    is_known = torch.equal(from_kernel(packed, shape[0]), weight)
    return is_known and torch.equal(by_kernel(x, packed, scale), by_blocks(x, weight, scale))


def describe() -> str:
    """Describe the kernels that multiply with int4 weights on this machine's CPU."""
    kernel = (
        f"PyTorch's kernel for int4 up to {MAX_INT4_KERNEL_TOKENS} tokens" if has_kernel() else ""
    )
    return half_precision.describe_blocks(kernel)


def _blocks(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield blocks of rows in a dtype, (rows, in); the next one overwrites the last."""
    outputs, groups = scale.shape
    together = PACKED_ROWS if is_for_kernel(weight) else 1
    size = max(half_precision.BLOCK_SIZE[dtype] // (groups * GROUP) // together, 1) * together
    wide = scale.new_empty(
        (min(size, outputs), groups, GROUP), dtype=dtype
    )  # once, as in `half_precision`
    bytes_of_rows = weight.view(outputs, -1)
    for start in range(0, outputs, size):
        scales = scale[start : start + size, :, None]
        rows = bytes_of_rows[start : start + size]
        stored = rows.flatten() if is_for_kernel(weight) else rows
        numbers = numbers_of(stored, len(scales)).view(-1, groups, GROUP)
        yield wide[: len(scales)].copy_(numbers).mul_(scales).flatten(1)
