"""The dtypes that weights may have in a file, and what becomes of others."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import DTYPES, FLOAT8
from gptj.errors import CheckpointError, choices
from gptj.spec.tensors import LazyTensor

WEIGHTS: Final = ("float32", "float16", "bfloat16", "float64")
"""The dtypes of weights; float64 is read as float32."""


def fits_dtype(tensor: LazyTensor, fixed: str | None) -> bool:
    """Return whether a weight has its dtype: a fixed one, or any of `WEIGHTS`."""
    found = str(tensor.dtype)
    return found in WEIGHTS if fixed is None else found == fixed


def needed_dtype(fixed: str | None) -> str:
    """Return the end of a message on a weight, which says the dtype if there is only one."""
    return "" if fixed is None else f", needed is {fixed}"


def is_float64(tensor: LazyTensor) -> bool:
    """Return whether a tensor is in float64."""
    return str(tensor.dtype) == "float64"


def as_float32(name: str, tensor: LazyTensor) -> LazyTensor:
    """Return a tensor in float64 as float32, and any other as it is."""
    return cast(name, tensor, DTYPES["float32"]) if is_float64(tensor) else tensor


def advice_on(dtypes: Iterable[np.dtype[Any]]) -> str | None:
    """Return what to do about weights of these dtypes; None where there are none."""
    found = {str(dtype) for dtype in dtypes}
    if not found:
        return None
    if found & FLOAT8.keys():
        return (
            "Weights in eight bits of floating point need their scales: open them with the program "
            "that wrote them, and save them in bfloat16."
        )
    if any(name.startswith(("int", "uint", "bool")) for name in found):
        return (
            "Integers are weights that another program quantized, or bits of another dtype: "
            "dequantize and save them there in float16 or bfloat16. gptj's own quantized weights "
            "have a quantization_config in config.json."
        )
    return f"Save the weights in one of {choices(WEIGHTS)}."


def cast(name: str, tensor: LazyTensor, dtype: np.dtype[Any]) -> LazyTensor:
    """Return a handle that casts a tensor to another dtype when it is read.

    Raises:
        CheckpointError: on reading, for numbers that overflow.
    """

    def load() -> npt.NDArray[Any]:
        array = tensor.load()
        with np.errstate(over="ignore"):  # overflow is refused below
            rounded = array.astype(dtype)
        if np.isinf(rounded).sum() > np.isinf(array).sum():
            worst = np.abs(array[np.isfinite(array)]).max()
            raise CheckpointError(
                f"{name} holds {worst}, which {dtype} cannot; bfloat16 and float32 can."
            )
        return rounded

    return tensor if tensor.dtype == dtype else LazyTensor(tensor.shape, dtype, load)
