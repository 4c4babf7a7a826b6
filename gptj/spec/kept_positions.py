"""What `logits_to_keep` asks a language model for, alike in every backend."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from gptj.errors import ArgumentError, brief
from gptj.spec.input_arrays import input_array
from gptj.spec.tensor_checks import Concrete, is_count, is_integer, is_tensor, known_values
from gptj.spec.types import Size, Tensor


def kept_positions(keep: object, length: Size, concrete: Concrete) -> Any:
    """Return how many of the last positions get logits, 0 for all, or which, (K,).

    Args:
        keep: a whole number, of which all above T mean all positions; or K positions from -T to
            T - 1, as a list, an array or a tensor; None for all.
        length: T, None where it is not known.

    Returns:
        The number, or the positions, counted from 0 where both they and T are known.

    Raises:
        ArgumentError: for anything else, and for no position at all.
    """
    if keep is None or is_count(keep, 0):
        return keep or 0
    given = input_array(keep, "logits_to_keep") if _is_list_of_numbers(keep) else keep
    if not is_tensor(given) or not _is_one_row(given):
        raise _refusal(keep, length)
    values = known_values(given, concrete)
    if values is None or length is None:
        return given
    wrong = (values < -length) | (values >= length)
    if wrong.any():
        raise _refusal(values[wrong][0], length)
    return np.where(values < 0, values + length, values) if (values < 0).any() else given


def _is_one_row(given: Tensor) -> bool:
    return is_integer(given) and len(given.shape) == 1 and given.shape[0] != 0


def _is_list_of_numbers(keep: object) -> TypeGuard[Sequence[int]]:
    return isinstance(keep, list | tuple) and all(is_count(each, -np.inf) for each in keep)


def _refusal(found: object, length: Size) -> ArgumentError:
    return ArgumentError(
        "logits_to_keep must be how many of the last positions get logits, a whole number, 0 for "
        f"all; or which, one row of integers from 0 to {'T' if length is None else length} - 1; "
        f"found {brief(found)}."
    )
