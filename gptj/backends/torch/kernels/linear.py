"""Matmuls of linear layers, ``x @ weight.T + bias``, by the kernel that is chosen for them.

PyTorch's own is the choice wherever nothing is known to be faster: on a GPU, while compiling, and
for tensors over several processes. All kernels accumulate in float32.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.backends.torch.kernels import half_precision
from gptj.backends.torch.kernels.float32 import (
    ALL_ROW_COUNTS,
    NO_ROW_COUNTS,
    PYTORCH,
    Kernel,
    float32,
    rows_for_onednn,
)
from gptj.backends.torch.kernels.half_precision import rows_of

# PyTorch: whether torch.func is at work; no public function says so
is_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)

HALF_DTYPES: Final = (torch.bfloat16, torch.float16)


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (..., in) x (out, in) + (out,), in the dtype of `x` or of autocast."""
    kernel = kernel_for(x, weight)
    if kernel is PYTORCH:
        return F.linear(x, weight, bias)
    dtype = compute_dtype(x)
    x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if not torch.is_grad_enabled():
        return kernel.forward(x, weight, bias)
    y: Tensor = _Matmul.apply(kernel, x, weight, bias)
    return y


def kernel_for(x: Tensor, weight: Tensor) -> Kernel:
    """Return the kernel that multiplies `x` with a weight."""
    if x.device.type != "cpu" or not is_concrete(weight):
        return PYTORCH
    return choose_kernel(compute_dtype(x), rows_of(x))


def describe(dtype: torch.dtype) -> str:
    """Describe the kernels that multiply in a dtype on this machine's CPU."""
    own = "MKL" if dtype == torch.float32 and torch.backends.mkl.is_available() else "PyTorch"
    if dtype in HALF_DTYPES and not half_precision.is_native(dtype):
        then = half_precision.in_words(torch.float32)
        return f"{own} up to {half_precision.MAX_PYTORCH_TOKENS} tokens, then {then}"
    rows = rows_for_onednn() if dtype == torch.float32 else NO_ROW_COUNTS
    if not rows:
        return own
    parts = [f"{own} up to {rows.start - 1} tokens"] if rows.start > 1 else []
    parts.append(
        "oneDNN" if rows.stop == ALL_ROW_COUNTS.stop else f"oneDNN up to {rows.stop - 1} tokens"
    )
    parts += [own] if rows.stop < ALL_ROW_COUNTS.stop else []
    return ", then ".join(parts)


def is_concrete(tensor: Tensor) -> bool:
    """Return whether a tensor is plain: not traced, transformed or spread over processes."""
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return type(tensor.data) is Tensor and not is_traced and not is_transformed()


def choose_kernel(dtype: torch.dtype, rows: int) -> Kernel:
    """Return the kernel for a number of rows in a dtype on this machine's CPU."""
    if dtype == torch.float32:
        return float32(rows)
    if dtype not in HALF_DTYPES:
        return PYTORCH
    return (
        half_precision.native(dtype, rows)
        if half_precision.is_native(dtype)
        else half_precision.BLOCKS
    )


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of matmuls with a tensor: its own, or that of autocast."""
    is_cast = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if is_cast else x.dtype


class _Matmul(torch.autograd.Function):
    """The matmul by a kernel, and its derivatives."""

    @staticmethod
    def forward(kernel: Kernel, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # a kernel may return a view, which autograd lets nobody change in place: data never is one
        return kernel.forward(x, weight, bias).data

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kernel, x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        kernel = PYTORCH if torch.is_grad_enabled() else ctx.kernel  # for derivatives of these
        rows = gradients[0].reshape(-1, len(weight))  # (N, out)
        to_x = kernel.to_inputs(rows, weight).view_as(x) if needs_x else None
        to_weight = kernel.to_weight(rows, x.reshape(-1, x.shape[-1])) if needs_weight else None
        to_bias = rows.float().sum(0).to(rows.dtype) if needs_bias else None
        return None, to_x, to_weight, to_bias
