"""Matmuls with int8 weights on processors that multiply int8: see ``gptj.spec.int8_limbs``."""

from typing import Final

import torch
from torch import Tensor

from gptj.backends.torch.kernels.float32 import trial
from gptj.backends.torch.kernels.half_precision import rows_of
from gptj.spec.config import dtype_name
from gptj.spec.int8_limbs import (
    BASE,
    LIMB_COUNTS,
    MAX_INPUTS,
    SMALLEST_LIMB,
    SMALLEST_MAXIMUM,
    largest_number,
)
from gptj.system.processor import multiplies_in

LIMB_TOKEN_COUNTS: Final = {torch.bfloat16: range(6, 33), torch.float32: range(1, 65)}
"""Dtype of x -> for how many tokens this is faster than PyTorch's other kernel, and than blocks.

With 8 tokens it takes 4 to 9 billion weights a second, where the other kernel takes 4 to 6; with
one in float32 5 to 9, where blocks take 5 to 6.
"""


def serves(x: Tensor) -> bool:
    """Return whether this is the fastest way to multiply (..., in) with int8 on this CPU."""
    is_count_served = rows_of(x) in LIMB_TOKEN_COUNTS.get(x.dtype, ())
    is_fit = 1 < x.shape[-1] <= MAX_INPUTS  # a single input PyTorch multiplies wrongly
    return is_count_served and is_fit and multiplies_in("int8") and has_kernel()


def describe() -> str:
    """Describe the numbers of tokens that this is taken for on this machine's CPU, if any."""
    if not (multiplies_in("int8") and has_kernel()):
        return ""
    rows = (
        f"{token_counts[0]} to {token_counts[-1]} tokens in {dtype_name(dtype)}"
        for dtype, token_counts in LIMB_TOKEN_COUNTS.items()
    )
    return f"int8 by int8 for {' and '.join(rows)}"


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """Return (N, in) x (out, in) int8 in float32, (N, out)."""
    limbs, step = split_limbs(x, LIMB_COUNTS[str(dtype_name(x.dtype))])
    sums = torch._int_mm(limbs.flatten(0, 1), weight.t())  # (count * N, out)
    places = sums.view(len(limbs), len(x), -1)
    y = places[0].float()
    for place, limb_sums in enumerate(places[1:], start=1):
        y.add_(limb_sums, alpha=float(BASE**place))
    return y.mul_(step)


def split_limbs(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the limbs of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    step = x.abs().amax(-1, keepdim=True).float().clamp_(min=SMALLEST_MAXIMUM) / largest_number(
        count
    )
    rest = torch.round_(x / step).to(torch.int32)
    limbs = x.new_empty((count, *x.shape), dtype=torch.int8)
    for place in limbs:
        place.copy_(rest)  # its lowest eight bits, from -128 to 127
        rest = (rest - SMALLEST_LIMB).div_(BASE, rounding_mode="floor")
    return limbs, step


@trial
def has_kernel() -> bool:
    """Return whether this PyTorch has the private kernel, and it computes what it should."""
    x = torch.full((2, 64), SMALLEST_LIMB, dtype=torch.int8)
    weight = torch.full((8, 64), 127, dtype=torch.int8)
    weight[::2] *= -1
    return torch.equal(torch._int_mm(x, weight.t()), x.int() @ weight.t().int())
