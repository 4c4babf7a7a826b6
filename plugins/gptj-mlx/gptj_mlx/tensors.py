"""Tensors in and out: NumPy arrays on one side, MLX's arrays on the other."""

from typing import Any

import ml_dtypes
import mlx.core as mx
import numpy as np
import numpy.typing as npt

from gptj.spec.checks import values_are_checked
from gptj.spec.input_arrays import input_array
from gptj.spec.tensors import in_own_order

Inputs = dict[str, mx.array | None]
"""A model's inputs by name."""


def from_numpy(array: Any) -> mx.array:
    """Return an array as MLX's: a copy, as MLX on a CPU takes over no memory of others."""
    if isinstance(array, mx.array):
        return array
    return mx.array(np.ascontiguousarray(in_own_order(np.asarray(array))).reshape(np.shape(array)))


def as_input(value: Any, name: str = "The input") -> mx.array:
    """Return a list, an array or a tensor as an input; integers are wide and signed."""
    if not isinstance(value, mx.array):
        return from_numpy(input_array(value, name))
    is_narrow = mx.issubdtype(value.dtype, mx.integer) and value.dtype not in (mx.int32, mx.int64)
    return value.astype(mx.int64) if is_narrow else value


def inputs(**given: Any) -> Inputs:
    """Return inputs as tensors; missing ones stay None."""
    return {name: None if v is None else as_input(v, name) for name, v in given.items()}


def to_numpy(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor's values, on a CPU without a copy; they are computed now, if not before."""
    if not isinstance(tensor, mx.array):
        return np.asarray(tensor)
    mx.eval(tensor)  # which refuses a traced array; NumPy's view of one ends the process
    if tensor.dtype == mx.bfloat16:  # NumPy knows it only by its bits
        return np.asarray(tensor.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.asarray(tensor)


def on_host(tensor: mx.array | None) -> npt.NDArray[Any] | None:
    """Return the values of an input, if it is given."""
    return None if tensor is None else to_numpy(tensor)


def concrete(tensor: mx.array) -> npt.NDArray[Any] | None:
    """Return a tensor's values for a check, or None while tracing or where no check is made."""
    if not values_are_checked():
        return None
    try:
        return to_numpy(tensor)
    except ValueError:
        return None
