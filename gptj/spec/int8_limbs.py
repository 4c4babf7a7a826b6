"""Rows of numbers in digits of eight bits, as processors multiply them with int8 weights.

A row x of numbers is taken for whole numbers of steps, ``x = q * step``, where the step is the
largest of the row by the largest q. The digits of q to the base 256 go from -128 to 127, so that
``x @ w = step * sum(256**k * (digit[k] @ w))``, where the products of digits are exact in int32.
Two digits round a row a hundred times more finely than bfloat16 rounds its largest number, three
as finely as float32 does.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

BASE: Final = 256
SMALLEST_LIMB: Final = -128
LARGEST_LIMB: Final = 127

LIMB_COUNTS: Final = {"bfloat16": 2, "float16": 3, "float32": 3}
"""Dtype of the numbers -> how many digits they are given."""

MAX_INPUTS: Final = 2**17
"""The longest row whose products of digits with int8 can be added up in int32."""

SMALLEST_MAXIMUM: Final = 1e-30
"""What the largest number of a row counts as at least, so that its step is a normal number."""


def largest_number(count: int) -> int:
    """Return the largest number used with so many digits; a rounding error more still fits."""
    return LARGEST_LIMB * int(BASE ** (count - 1))


def split_limbs(
    x: npt.NDArray[Any], count: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return the digits of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    wide = x.astype(np.float32)
    top = np.maximum(np.abs(wide).max(axis=-1, keepdims=True), np.float32(SMALLEST_MAXIMUM))
    step = top / np.float32(largest_number(count))
    rest = np.rint(wide / step).astype(np.int32)
    limbs = np.empty((count, *x.shape), np.int8)
    for place in limbs:
        place[:] = (rest - SMALLEST_LIMB) % BASE + SMALLEST_LIMB
        rest = (rest - place) // BASE
    return limbs, step
