"""Checks of what a cache is asked for: other sequences, copies of them, its first tokens."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.errors import ArgumentError, brief
from gptj.spec.input_arrays import input_array
from gptj.spec.tensor_checks import (
    Concrete,
    is_boolean,
    is_count,
    is_integer,
    is_tensor,
    known_size,
    known_values,
)
from gptj.spec.types import Size, Tensor

Array: TypeAlias = npt.NDArray[Any]


def known_rows(rows: object, batch: Size, concrete: Concrete) -> Any:
    """Return which sequences of a cache are meant, (N,): counted from 0 where they are known.

    Args:
        rows: (N,) numbers from -B to B - 1, or B booleans; a list, an array or a tensor.
        batch: B.

    Raises:
        ArgumentError: for anything else, and for no sequence at all.
    """
    size = known_size(batch)
    given = input_array(rows, "rows") if isinstance(rows, list | tuple) else rows
    if is_tensor(given) and _may_be_rows(given):
        values = known_values(given, concrete)
        found = given if values is None else _places(values, size)
        if found is not None:
            return found
    raise ArgumentError(
        f"gather() takes which of the {size} sequences to keep, (N,) numbers from 0 to "
        f"{'B' if size is None else size} - 1; found {brief(_shown(rows))}."
    )


def check_copies(count: object) -> None:
    """Refuse a number of copies that is none: only a tensor's stays unknown.

    Raises:
        ArgumentError: for anything but a whole number above 0.
    """
    if not is_tensor(count) and not is_count(count, 1):
        raise ArgumentError(
            "expand() takes how many copies of every sequence there are to be, a whole number, "
            f"1 or more; found {brief(count)}."
        )


def kept_length(length: object, concrete: Concrete) -> Any:
    """Return a number of tokens as Python's integer, or as it is while it is traced.

    Raises:
        ArgumentError: for anything but a whole number, 0 or more.
    """
    number = length
    if is_tensor(length) and len(length.shape) == 0 and is_integer(length):
        values = known_values(length, concrete)
        if values is None:
            return length
        number = values.item()
    if not is_count(number, 0):
        raise ArgumentError(
            "crop() takes how many of the first tokens to keep, a whole number, 0 or more; found "
            f"{brief(number)}. To drop the last token, give cache.length - 1."
        )
    return int(number)


def _may_be_rows(given: Tensor) -> bool:
    return len(given.shape) == 1 and (is_integer(given) or is_boolean(given))


def _places(values: Array, batch: Size) -> Array | None:
    """Return places in a batch, counted from 0; None where there are none, or others."""
    if is_boolean(values):
        return np.flatnonzero(values) if len(values) == batch and values.any() else None
    if batch is None or not values.size:
        return values if values.size else None
    is_there = (values >= -batch) & (values < batch)
    return np.where(values < 0, values + batch, values) if is_there.all() else None


def _shown(rows: object) -> object:
    return rows.tolist() if isinstance(rows, np.ndarray) else rows
