"""Half-precision products on a CPU that has no instructions for them.

There PyTorch's kernels compute a product with a transposed weight, which every derivative needs, a
hundred times slower than in float32, and one with many tokens three times slower. So the weight is
widened here, a block of rows at a time, and the sums are those of float32. A few tokens stay with
PyTorch, which streams the weight at full speed for them.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK: Final = 1 << 22
"""Numbers that are widened at a time: 16 MB in float32."""

FEW: Final = 32
"""Up to so many tokens PyTorch's own product is faster."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., in) x (out, in) + (out,), in the dtype of `x` or of autocast."""
    dtype = _compute_dtype(x)
    is_plain = type(weight.data) is Tensor  # tensors over several processes know their own products
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.device.type != "cpu" or not is_plain or is_traced or is_native(dtype):
        return F.linear(x, weight, bias)
    x, weight = x.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    return _Product.apply(x, weight, bias)  # type: ignore[no-any-return]


@cache
def is_native(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies in a dtype; where nobody can say, PyTorch is trusted."""
    known = {
        torch.bfloat16: "_is_mkldnn_bf16_supported",
        torch.float16: "_is_mkldnn_fp16_supported",
    }
    ask = getattr(torch.ops.mkldnn, known[dtype], None) if dtype in known else None
    return ask is None or bool(ask())


class _Product(torch.autograd.Function):
    """The product and its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, len(weight))  # (N, out)
        return (
            transposed_product(rows, weight).view_as(x) if needs_x else None,
            (rows.float().t() @ x.reshape(len(rows), -1).float()).to(weight.dtype)
            if needs_weight
            else None,
            rows.float().sum(0).to(weight.dtype) if needs_bias else None,
        )


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., in) x (out, in) + (out,), with sums in float32."""
    if x.numel() <= FEW * x.shape[-1]:
        return F.linear(x, weight, bias)
    wide = x.reshape(-1, x.shape[-1]).float()  # (N, in)
    y = torch.empty(len(wide), len(weight), dtype=x.dtype)
    for start, block in _blocks(weight):
        part = wide @ block.t()
        if bias is not None:
            part += bias[start : start + len(block)]
        y[:, start : start + len(block)] = part
    return y.view(*x.shape[:-1], len(weight))


def transposed_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Return (N, out) x (out, in), with sums in float32."""
    wide = rows.float()
    y = torch.zeros(len(rows), weight.shape[1])
    for start, block in _blocks(weight):
        y.addmm_(wide[:, start : start + len(block)], block)
    return y.to(rows.dtype)


def _blocks(weight: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks of rows in float32, and where each begins."""
    size = max(1, BLOCK // weight.shape[1])
    for start in range(0, len(weight), size):
        yield start, weight[start : start + size].float()


def _compute_dtype(x: Tensor) -> torch.dtype:
    is_cast = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if is_cast else x.dtype
