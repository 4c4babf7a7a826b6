"""The smallest checks of a tensor, from which those of inputs, masks and targets are made."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from gptj.errors import InputError
from gptj.spec.types import Size, Tensor

Concrete: TypeAlias = Callable[[Any], npt.NDArray[Any] | None]
"""A tensor -> its values on the host, or None while tracing."""


ON_HOST: Final = (np.ndarray, np.generic)
"""NumPy's own tensors and numbers; not as a union, of which PyTorch's compiler makes nothing."""


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor of any framework, an array, or a number of NumPy's."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_count(value: object, least: float) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy, `least` or more; a boolean is none."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        return False
    return bool(value >= least)


def known_values(tensor: Tensor, concrete: Concrete) -> npt.NDArray[Any] | None:
    """Return the values of a tensor, which may be NumPy's; None while tracing."""
    return np.asarray(tensor) if isinstance(tensor, ON_HOST) else concrete(tensor)


def is_boolean(tensor: Tensor) -> bool:
    """Whether a tensor of any framework holds booleans."""
    return "bool" in str(tensor.dtype)


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


def known_size(size: object) -> Size:
    """Return a size, None for one that a framework's symbol stands for."""
    return size if isinstance(size, int) else None


def agree(found: object, *accepted: object) -> bool:
    """Whether a size is one of those accepted; a symbolic size (None) agrees with anything."""
    return found is None or None in accepted or found in accepted
