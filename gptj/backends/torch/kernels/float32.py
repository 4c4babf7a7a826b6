"""Matmul kernels in PyTorch, and the one for float32 on this machine's CPU.

``benchmarks/matmuls.py`` measures them.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.errors import ArgumentError, choices
from gptj.system.processor import vendor

KERNEL_VARIABLE: Final = "GPTJ_TORCH_PRODUCTS"
"""The environment variable that names a kernel for float32 on a CPU."""

ALL_ROW_COUNTS: Final = range(1, 1 << 62)
NO_ROW_COUNTS: Final = range(0)

ROWS_FOR_ONEDNN: Final = {
    ("AuthenticAMD", "AVX2"): range(1, 129),
    ("AuthenticAMD", "AVX512"): ALL_ROW_COUNTS,
    ("GenuineIntel", "AVX512"): range(3, 256),
}
"""Maker and vector instructions of a processor -> rows that oneDNN is faster for, in float32.

PyTorch's own kernel is mostly MKL, which does not do its best on processors that are not Intel's.
On two cores of AMD's, in GFLOP/s, oneDNN against MKL: with AVX-512 and many rows 412 to 448 against
190; with AVX2 and one row 11 against 6, with 8 rows 40 against 20, with 128 rows 132 against 100,
with 512 rows in a whole model 107 against 136. On two of Intel's with AVX-512: with one row 11
against 14, with 8 rows 62 against 48, with 32 rows 155 against 132, with 512 rows 300 both, but 297
against 164 for a head's many outputs.
"""


@dataclass(frozen=True)
class Kernel:
    """Matmuls of rows (N, in) with a weight (out, in).

    Attributes:
        name: the name that users know.
        forward: from x (..., in), weight, and bias or None, to (..., out).
        to_inputs: from gradients (N, out) and the weight to gradients (N, in).
        to_weight: from gradients (N, out) and x (N, in) to a gradient (out, in).
    """

    name: str
    forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    to_inputs: Callable[[Tensor, Tensor], Tensor]
    to_weight: Callable[[Tensor, Tensor], Tensor]


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the matmul by PyTorch's private operator for oneDNN."""
    if not x.numel():  # which oneDNN refuses
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


PYTORCH: Final = Kernel(
    "pytorch", F.linear, lambda rows, weight: rows @ weight, lambda rows, x: rows.t() @ x
)
ONEDNN: Final = Kernel(
    "onednn",
    onednn,
    lambda rows, weight: onednn(rows, weight.t()),
    lambda rows, x: onednn(rows.t(), x.t()),
)


def trial(is_right: Callable[[], bool]) -> Callable[[], bool]:
    """Decorate the trial of a private kernel: run it once, on a CPU; a missing kernel fails."""

    @cache
    @wraps(is_right)
    def run() -> bool:
        try:
            with torch.device("cpu"):  # even if the caller's default is another
                return is_right()
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False

    return run


@trial
def has_onednn() -> bool:
    """Return whether this PyTorch has the private operator, and it is right."""
    x, weight, bias = torch.ones(3, 8), torch.full((2, 8), 0.5), torch.tensor((1.0, -1.0))
    return torch.equal(onednn(x, weight, bias), F.linear(x, weight, bias))


def float32(rows: int) -> Kernel:
    """Return the kernel for a number of rows in float32 on this machine's CPU."""
    return ONEDNN if rows in rows_for_onednn() else PYTORCH


@cache
def rows_for_onednn() -> range:
    """Return the numbers of rows that oneDNN is chosen for; the environment overrides the table.

    Raises:
        ArgumentError: if the environment names an unknown kernel.
    """
    available = [PYTORCH.name, ONEDNN.name] if has_onednn() else [PYTORCH.name]
    named = os.environ.get(KERNEL_VARIABLE)
    if named and named not in available:
        raise ArgumentError(
            f"{KERNEL_VARIABLE} is {named!r}; this machine has {choices(available)}."
        )
    if named:
        return ALL_ROW_COUNTS if named == ONEDNN.name else NO_ROW_COUNTS
    instructions = torch.backends.cpu.get_cpu_capability()
    return (
        ROWS_FOR_ONEDNN.get((vendor(), instructions), NO_ROW_COUNTS)
        if has_onednn()
        else NO_ROW_COUNTS
    )
