"""LazyTensor: a weight that is known by shape and dtype, and read only when it is needed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read, so that NumPy functions take a handle for an array."""
        array = self.read()
        return array.astype(dtype or array.dtype, copy=bool(copy))


Tensors = Mapping[str, LazyTensor]
"""Weights by canonical name: what a reader returns and a writer takes."""
