"""Arrays of NumPy on one side, of MLX on the other."""

from typing import Any

import ml_dtypes
import mlx.core as mx
import numpy as np
import numpy.typing as npt

from gptj.spec.tensors import in_own_order


def to_mlx(value: Any) -> mx.array:
    """Return an array as MLX's: a copy, as MLX on a CPU takes over no memory of others."""
    if isinstance(value, mx.array):
        return value
    return mx.array(np.ascontiguousarray(in_own_order(np.asarray(value))).reshape(np.shape(value)))


def to_numpy(array: mx.array) -> npt.NDArray[Any]:
    """Return an array's values, without a copy; they are computed now, if not before."""
    mx.eval(array)
    if array.dtype == mx.bfloat16:  # NumPy knows it only by its bits
        return np.asarray(array.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.asarray(array)


def in_float32(value: Any) -> Any:
    """Return a result, or all results of a mapping or a list, as NumPy's arrays of float32."""
    if isinstance(value, dict):
        return {name: in_float32(part) for name, part in value.items()}
    if isinstance(value, list):
        return tuple(in_float32(part) for part in value)
    return to_numpy(value.astype(mx.float32))
