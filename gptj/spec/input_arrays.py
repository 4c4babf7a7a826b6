"""Lists and arrays that users hand over, as NumPy arrays that every framework takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.errors import InputError
from gptj.spec.tensors import in_own_order

INDICES = (np.dtype(np.int32), np.dtype(np.int64))
"""The integers with which every framework looks up, compares and counts."""

QUOTED = 40
"""Characters of a wrong value that a message shows."""


def input_array(value: object, name: str = "The input") -> npt.NDArray[Any]:
    """Return a list, a number or an array as an array in the machine's own byte order.

    Integers of other widths become int64, which holds them all: frameworks compute little in
    unsigned and narrow ones, and a limit such as the vocabulary's size would not fit. What is above
    int64 becomes its largest number, which is out of every range.

    Args:
        value: nested lists, or whatever NumPy reads.
        name: of the argument, for messages.

    Raises:
        InputError: for lists of several lengths, text, and anything else that is no number.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(_not_an_array(value, name, error)) from error
    if array.dtype.kind in "OUSMmc":
        raise InputError(f"{name} must hold numbers; found {_found(value, array)}.")
    if array.size == 0 and isinstance(value, (list, tuple)):
        return array.astype(np.int64)  # NumPy's floats would hide that it is empty
    array = in_own_order(array)
    if array.dtype.kind not in "iu" or array.dtype in INDICES:
        return array
    if array.dtype == np.uint64:
        array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
    return array.astype(np.int64)


def _not_an_array(value: object, name: str, error: Exception) -> str:
    rows = value if isinstance(value, Sequence) else ()
    lengths = sorted({len(row) for row in rows if isinstance(row, (list, tuple))})
    if len(lengths) > 1:
        several = " and ".join(map(str, (lengths[0], lengths[-1])))
        return (
            f"{name} must be a rectangle; found rows of {several} numbers. Pad the shorter ones, "
            "for example with the tokenizer's padding=True, and mask the padding."
        )
    return f"{name} must be nested lists of numbers, or an array; found {type(value)}: {error}"


def _found(value: object, array: npt.NDArray[Any]) -> str:
    first = array.reshape(-1)[:1].tolist()[0] if array.size else value
    text = repr(first)
    if isinstance(first, (str, bytes)):
        return f"{text[:QUOTED]}, a text. Encode it first: tokenizer(text)"
    return text[:QUOTED]
