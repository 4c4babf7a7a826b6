"""Matmuls with int8 weights, and the way to int4's. Their numbers: ``gptj.spec.quantizers``."""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.backends.torch.kernels import half_precision, int4, int8_limbs
from gptj.backends.torch.kernels.float32 import trial
from gptj.backends.torch.kernels.half_precision import rows_of
from gptj.backends.torch.kernels.int4_layout import INT4
from gptj.backends.torch.kernels.linear import is_concrete

MAX_INT8_KERNEL_TOKENS: Final = 12
"""Up to so many tokens PyTorch's private kernel is faster than blocks."""

KERNEL_WIDTH: Final = 32
"""PyTorch's private kernel reads so many numbers at a time, also where a row has fewer left."""


def matmul(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return (..., in) x (out, in), stored as int8 or int4, (..., out), in the dtype of `x`.

    The scales are one per output (out,) with int8, one per group (out, groups) with int4. Gradients
    reach `x`, for an adapter of an earlier layer.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _Matmul.apply(x, weight, scale)
    return _by_fastest(x, weight, scale)


def by_blocks(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul with float32 sums; the dequantized weight is never whole."""
    return (half_precision.by_blocks(x, weight) * scale).to(x.dtype)


def by_limbs(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul with exact sums, by int8 limbs of `x`."""
    y = int8_limbs.matmul(x.reshape(-1, x.shape[-1]), weight).mul_(scale)
    return y.to(x.dtype).view(*x.shape[:-1], len(weight))


def by_definition(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul by the definition, which costs a GPU or compiled code nothing."""
    return F.linear(x, dequantized(weight, scale, x.dtype))


def dequantized(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of stored numbers and scales, (out, in)."""
    if weight.dtype == INT4:
        return int4.dequantized(weight, scale, dtype)
    return (weight * scale[:, None]).to(dtype)


def describe() -> str:
    """Describe the kernels that multiply with int8 weights on this machine's CPU."""
    packed = (
        f"PyTorch's kernel for int8 up to {MAX_INT8_KERNEL_TOKENS} tokens" if has_packed() else ""
    )
    return "; else ".join(
        filter(None, (int8_limbs.describe(), half_precision.describe_blocks(packed)))
    )


def packed(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul by PyTorch's private kernel for (N, in) in bfloat16 on a CPU."""
    ones = x.new_ones(len(weight))  # the kernel would round the scales to bfloat16
    return torch._weight_int8pack_mm(x.contiguous(), weight, ones).mul_(scale)  # in float32


@trial
def has_packed() -> bool:
    """Return whether this PyTorch has the private kernel, and it is right."""
    x = torch.arange(KERNEL_WIDTH, dtype=torch.bfloat16)[None]
    weight = torch.full((2, KERNEL_WIDTH), 3, dtype=torch.int8)
    scale = torch.tensor((1.0, -0.5))
    return torch.equal(packed(x, weight, scale), by_blocks(x, weight, scale))


def _by_fastest(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matmul by the fastest way for these tensors."""
    if weight.dtype == INT4:
        return int4.matmul(x, weight, scale)
    if x.device.type != "cpu" or not is_concrete(weight):
        return by_definition(x, weight, scale)
    if int8_limbs.serves(x):
        return by_limbs(x, weight, scale)
    is_fit = x.dtype == torch.bfloat16 and x.shape[-1] % KERNEL_WIDTH == 0
    if not is_fit or rows_of(x) > MAX_INT8_KERNEL_TOKENS or not has_packed():
        return by_blocks(x, weight, scale)
    y = packed(x.reshape(-1, x.shape[-1]), weight, scale)
    return y.view(*x.shape[:-1], len(weight))


class _Matmul(torch.autograd.Function):
    """The matmul and its gradient for `x`: PyTorch has none for an integer matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return _by_fastest(x, weight, scale).data  # no view, as in `linear`

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        weight, scale = ctx.saved_tensors
        return gradients[0] @ dequantized(weight, scale, gradients[0].dtype), None, None
