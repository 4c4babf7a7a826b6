"""The two layouts of int4 weights in memory: that of the files, and that of PyTorch's kernel.

That of the files is (out, in / 2), as ``gptj.spec.quantizers`` says. The kernel's packs
`PACKED_ROWS` rows together, transposed: the low half of a byte is of the first half of these rows,
the high half of the second. It is kept flat, (out * in / 2,), so that no code confuses the two. A
weight has one copy, and either layout is made exactly from the other.
"""

from typing import Final

import torch
from torch import Tensor

from gptj.spec.quantizers import GROUP, OFFSET

INT4: Final = torch.uint8
"""The dtype that int4 weights are stored in, two numbers a byte."""

PACKED_ROWS: Final = {"AVX2": 32, "AVX512": 64}.get(torch.backends.cpu.get_cpu_capability(), 0)
"""Rows that PyTorch's kernel packs together with this CPU's vector instructions; 0: unknown."""

ROWS_AT_A_TIME: Final = 256
"""Rows that are transposed at a time: meanwhile every number takes four bytes."""


def is_for_kernel(weight: Tensor) -> bool:
    """Return whether a stored weight has the layout of PyTorch's kernel."""
    return weight.dim() == 1


def to_kernel(weight: Tensor) -> Tensor:
    """Return (out, in / 2) in the layout of PyTorch's kernel; `PACKED_ROWS` divides `out`."""
    blocks = [_packed(numbers_of(rows, len(rows))) for rows in weight.split(ROWS_AT_A_TIME)]
    return torch.cat(blocks)


def from_kernel(weight: Tensor, outputs: int) -> Tensor:
    """Return (out, in / 2), as in the files, from the layout of PyTorch's kernel."""
    blocks = weight.view(outputs, -1).split(ROWS_AT_A_TIME)
    return torch.cat([_stored(numbers_of(rows.flatten(), len(rows))) for rows in blocks])


def numbers_of(weight: Tensor, outputs: int) -> Tensor:
    """Return the numbers of a weight in either layout, (out, in) int8 from -8 to 7."""
    if is_for_kernel(weight):
        blocks = weight.view(outputs // PACKED_ROWS, -1, PACKED_ROWS // 2)
        numbers = _halves(blocks).transpose(1, 2)  # (blocks, PACKED_ROWS, in)
    else:
        numbers = _halves(weight.view(outputs, -1, GROUP // 2))  # (out, groups, GROUP)
    return numbers.reshape(outputs, -1).view(torch.int8) - OFFSET


def _halves(stored: Tensor) -> Tensor:
    """Return the low halves of bytes (..., n) and then the high ones, (..., 2 n)."""
    return torch.cat((stored & 15, stored >> 4), dim=-1)


def _packed(numbers: Tensor) -> Tensor:
    """Return numbers (rows, in) in the layout of PyTorch's kernel."""
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers.int() + OFFSET, 1)
    return packed.flatten()


def _stored(numbers: Tensor) -> Tensor:
    """Return numbers (rows, in) as in the files, (rows, in / 2)."""
    halves = (numbers + OFFSET).view(torch.uint8).view(len(numbers), -1, 2, GROUP // 2)
    return (halves[:, :, 0] | (halves[:, :, 1] << 4)).flatten(1)
