"""Products with int8 weights on processors that multiply int8 themselves: ``gptj.spec.digits``."""

from typing import Final

import torch
from torch import Tensor

from gptj.backends.torch.kernels.float32 import rows_of, trial
from gptj.spec.config import dtype_name
from gptj.spec.digits import BASE, DIGITS, LEAST, MOST_INPUTS, SMALLEST_DIGIT, largest
from gptj.system.processor import multiplies_in

FEW: Final = {torch.bfloat16: range(6, 33), torch.float32: range(1, 65)}
"""Dtype of x -> for how many tokens this is faster than PyTorch's other kernel, and than blocks.

With 8 tokens it takes 4 to 9 billion weights a second, where the other kernel takes 4 to 6; with
one in float32 5 to 9, where blocks take 5 to 6.
"""


def serves(x: Tensor) -> bool:
    """Return whether this is the fastest way to multiply (..., in) with int8 on this CPU."""
    is_few = rows_of(x) in FEW.get(x.dtype, ())
    is_fit = 1 < x.shape[-1] <= MOST_INPUTS  # a single input PyTorch multiplies wrongly
    return is_few and is_fit and multiplies_in("int8") and has_kernel()


def describe() -> str:
    """Return for how many tokens this is taken on this machine's CPU, or nothing."""
    if not (multiplies_in("int8") and has_kernel()):
        return ""
    rows = (f"{few[0]} to {few[-1]} tokens in {dtype_name(dtype)}" for dtype, few in FEW.items())
    return f"int8 by int8 for {' and '.join(rows)}"


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return (N, in) x (out, in) int8 in float32, (N, out)."""
    digits, step = split(x, DIGITS[str(dtype_name(x.dtype))])
    sums = torch._int_mm(digits.flatten(0, 1), weight.t())  # (count * N, out)
    places = sums.view(len(digits), len(x), -1)
    y = places[0].float()
    for place, part in enumerate(places[1:], start=1):
        y.add_(part, alpha=float(BASE**place))
    return y.mul_(step)


def split(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the digits of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    step = x.abs().amax(-1, keepdim=True).float().clamp_(min=LEAST) / largest(count)
    rest = torch.round_(x / step).to(torch.int32)
    digits = x.new_empty((count, *x.shape), dtype=torch.int8)
    for place in digits:
        place.copy_(rest)  # its lowest eight bits, from -128 to 127
        rest = (rest - SMALLEST_DIGIT).div_(BASE, rounding_mode="floor")
    return digits, step


@trial
def has_kernel() -> bool:
    """Return whether this PyTorch has the private kernel, and it computes what it should."""
    x = torch.full((2, 64), SMALLEST_DIGIT, dtype=torch.int8)
    weight = torch.full((8, 64), 127, dtype=torch.int8)
    weight[::2] *= -1
    return torch.equal(torch._int_mm(x, weight.t()), x.int() @ weight.t().int())
