"""LazyTensor: a weight that is known by shape and dtype, and read only when it is needed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

STRIP: Final = 8
"""Rows that are turned at once: their cache lines stay until all of each has been used."""


@dataclass(frozen=True)
class LazyTensor:
    """A handle on one tensor, wherever it lies: a file, another framework, or memory.

    `load` returns the whole array; where its bytes lie plainly in a file that is a copy-on-write
    memory map, so that nothing is read before it is used.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], npt.NDArray[Any]]

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "LazyTensor":
        """Wrap an array that is in memory."""
        return cls(array.shape, array.dtype, lambda: array)

    @property
    def nbytes(self) -> int:
        """Size of the whole tensor in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, index: Any = None) -> npt.NDArray[Any]:
        """Return the array, or the part of it that a NumPy index (a slice, a tuple) selects."""
        array = self.load()
        return array if index is None else array[index]

    def transposed(self) -> "LazyTensor":
        """Return a handle on the same tensor with its axes reversed; nothing is copied."""
        return LazyTensor(self.shape[::-1], self.dtype, lambda: self.load().T)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Read, so that NumPy functions take a handle for an array."""
        array = self.read()
        return array.astype(dtype or array.dtype, copy=bool(copy))


def copy_into(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy an array into another of its shape, converting to its dtype.

    Where one of two matrices is the other way round in memory, NumPy's own copy misses the cache at
    every number: narrow strips are five times as fast.
    """
    if source.ndim == 2 and source.flags.f_contiguous != target.flags.f_contiguous:
        for start in range(0, source.shape[1], STRIP):
            target[:, start : start + STRIP] = source[:, start : start + STRIP]
    else:
        np.copyto(target, source, casting="unsafe")


Tensors = Mapping[str, LazyTensor]
"""Weights by canonical name: what a reader returns and a writer takes."""
