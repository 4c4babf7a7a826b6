"""LazyTensor: a weight with a known shape and dtype, read only when needed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

STRIP: Final = 8
"""Columns that are transposed at a time: their cache lines stay until they are used up."""


@dataclass(frozen=True)
class LazyTensor:
    """A handle on a tensor in a file, in memory, or in a framework.

    `load` returns the whole array; for uncompressed bytes in a file it is a copy-on-write memory
    map, so nothing is read before it is used.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], npt.NDArray[Any]]

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "LazyTensor":
        """Wrap an array in memory, of any strides and byte order."""
        array = in_own_order(array)
        return cls(array.shape, array.dtype, lambda: array)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go into a pickle, or a deep copy, as the array."""
        return LazyTensor.of, (np.asarray(self.read()),)

    @property
    def nbytes(self) -> int:
        """Size of the whole tensor in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, index: Any = None) -> npt.NDArray[Any]:
        """Return the array, or what a NumPy index (a slice, a tuple) selects from it."""
        array = self.load()
        return array if index is None else array[index]

    def transposed(self) -> "LazyTensor":
        """Return a handle on the same tensor with its axes reversed; nothing is copied."""
        return LazyTensor(self.shape[::-1], self.dtype, lambda: self.load().T)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Read the array, so that NumPy functions accept a handle."""
        array = self.read()
        return array.astype(dtype or array.dtype, copy=bool(copy))


def in_own_order(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array in the machine's own byte order, which files and frameworks take for granted.

    Only one in the other order is copied.
    """
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def copy_into(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy an array into another of its shape, converting to its dtype.

    If the two are matrices with different memory orders, NumPy's copy misses the cache at every
    number: thin strips are five times as fast.
    """
    if source.ndim == 2 and source.flags.f_contiguous != target.flags.f_contiguous:
        for start in range(0, source.shape[1], STRIP):
            target[:, start : start + STRIP] = source[:, start : start + STRIP]
    else:
        np.copyto(target, source, casting="unsafe")


Tensors = Mapping[str, LazyTensor]
"""Canonical name -> weight: what readers return and writers take."""
