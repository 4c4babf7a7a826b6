"""Half-precision products on a CPU that has no instructions for them.

There PyTorch's kernels compute a product with a transposed weight, which every derivative needs, a
hundred times slower than in float32, and one with many tokens five times slower. So the weight is
widened here, a block of rows at a time, and the sums are those of float32. A few tokens stay with
PyTorch, which streams the weight at full speed for them.
"""

from collections.abc import Iterator
from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.backends.torch.kernels import Kernel, float32, rows_of

BLOCK: Final = 1 << 20
"""Numbers that are widened at a time: 4 MB in float32, which stay in the cache."""

FEW: Final = 3
"""Up to so many tokens PyTorch's own product is faster."""


@cache
def is_native(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies in a dtype; where nobody can say, PyTorch is trusted."""
    known = {
        torch.bfloat16: "_is_mkldnn_bf16_supported",
        torch.float16: "_is_mkldnn_fp16_supported",
    }
    ask = getattr(torch.ops.mkldnn, known[dtype], None) if dtype in known else None
    return ask is None or bool(ask())


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., in) x (out, in) + (out,), with sums in float32."""
    if x.numel() <= FEW * x.shape[-1]:
        return F.linear(x, weight, bias)
    y = widened_product(x, weight)
    return (y if bias is None else y + bias).to(x.dtype)


def widened_product(x: Tensor, weight: Tensor) -> Tensor:
    """Return (..., in) x (out, in) in float32, of whatever dtype the weight is."""
    wide = x.float()
    multiply = float32(rows_of(x)).forward
    return torch.cat([multiply(wide, block, None) for _, block in _blocks(weight)], dim=-1)


def transposed_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Return (N, out) x (out, in), with sums in float32."""
    wide = rows.float()
    y = torch.zeros(len(rows), weight.shape[1])
    for start, block in _blocks(weight):
        y.addmm_(wide[:, start : start + len(block)], block)
    return y.to(rows.dtype)


def weight_product(rows: Tensor, x: Tensor) -> Tensor:
    """Return (N, out) transposed x (N, in), with sums in float32."""
    return float32(len(rows)).to_weight(rows.float(), x.float()).to(rows.dtype)


BLOCKS: Final = Kernel("blocks", product, transposed_product, weight_product)


def _blocks(weight: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of rows in float32, and where each begins; the next one overwrites the last."""
    size = max(1, min(BLOCK // weight.shape[1], len(weight)))
    wide = torch.empty(size, weight.shape[1])  # once: new memory takes longer than what it is for
    for start in range(0, len(weight), size):
        rows = weight[start : start + size]
        yield start, wide[: len(rows)].copy_(rows)
