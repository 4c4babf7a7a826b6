"""Rows of numbers in int8 limbs, as processors multiply them with int8 weights.

A row x of numbers becomes whole numbers of steps, ``x = q * step``, where the step is the largest
number of the row divided by the largest q. The limbs are the digits of q to the base 256, from -128
to 127: ``x @ w = step * sum(256**k * (limb[k] @ w))``, where the matmuls of limbs are exact in
int32. Two limbs round a row a hundred times more finely than bfloat16 rounds its largest number,
three as finely as float32 does.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

BASE: Final = 256
SMALLEST_LIMB: Final = -128
LARGEST_LIMB: Final = 127

LIMB_COUNTS: Final = {"bfloat16": 2, "float16": 3, "float32": 3}
"""Dtype of the numbers -> number of limbs."""

MAX_INPUTS: Final = 2**17
"""The longest row whose matmul of limbs with int8 fits in int32."""

SMALLEST_MAXIMUM: Final = 1e-30
"""Lower bound of a row's largest number, which keeps its step a normal number."""


def largest_number(count: int) -> int:
    """Return the largest q of a number of limbs; one rounding error more still fits."""
    return LARGEST_LIMB * int(BASE ** (count - 1))


def split_limbs(
    x: npt.NDArray[Any], count: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return the limbs of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    wide = x.astype(np.float32)
    top = np.maximum(np.abs(wide).max(axis=-1, keepdims=True), np.float32(SMALLEST_MAXIMUM))
    step = top / np.float32(largest_number(count))
    rest = np.rint(wide / step).astype(np.int32)
    limbs = np.empty((count, *x.shape), np.int8)
    for place in limbs:
        place[:] = (rest - SMALLEST_LIMB) % BASE + SMALLEST_LIMB
        rest = (rest - place) // BASE
    return limbs, step
