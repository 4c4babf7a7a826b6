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
SMALLEST_DIGIT: Final = -128
LARGEST_DIGIT: Final = 127

DIGITS: Final = {"bfloat16": 2, "float16": 3, "float32": 3}
"""Dtype of the numbers -> how many digits they are given."""

MOST_INPUTS: Final = 2**17
"""The longest row whose products of digits with int8 can be added up in int32."""

LEAST: Final = 1e-30
"""What the largest number of a row counts as at least, so that its step is a normal number."""


def largest(count: int) -> int:
    """Return the largest number used with so many digits; a rounding error more still fits."""
    return LARGEST_DIGIT * int(BASE ** (count - 1))


def split(x: npt.NDArray[Any], count: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return the digits of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    wide = x.astype(np.float32)
    top = np.maximum(np.abs(wide).max(axis=-1, keepdims=True), np.float32(LEAST))
    step = top / np.float32(largest(count))
    rest = np.rint(wide / step).astype(np.int32)
    digits = np.empty((count, *x.shape), np.int8)
    for place in digits:
        place[:] = (rest - SMALLEST_DIGIT) % BASE + SMALLEST_DIGIT
        rest = (rest - place) // BASE
    return digits, step
