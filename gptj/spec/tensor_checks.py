"""The smallest checks of a tensor, from which those of inputs, masks and targets are made."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.errors import InputError
from gptj.spec.types import Tensor

Concrete: TypeAlias = Callable[[Any], npt.NDArray[Any] | None]
"""A tensor -> its values on the host, or None while tracing."""


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor of any framework holds integers, with or without sign."""
    return "int" in str(tensor.dtype)


def is_floating(tensor: Tensor) -> bool:
    """Whether a tensor of any framework holds floats: bfloat16 and float64 are among them."""
    return "float" in str(tensor.dtype)


def check_integer(name: str, tensor: Tensor) -> None:
    """Refuse what does not hold integers."""
    if not is_integer(tensor):
        raise InputError(f"{name} must hold integers; found {tensor.dtype}.")


def place(wrong: npt.NDArray[np.bool_]) -> str:
    """Return in words where the first wrong value is."""
    where = zip(("row", "column"), np.argwhere(wrong)[0], strict=False)
    return ", ".join(f"{axis} {index}" for axis, index in where)


def agree(found: object, *accepted: object) -> bool:
    """Whether a size is one of those accepted; a symbolic size (None) agrees with anything."""
    return found is None or None in accepted or found in accepted
