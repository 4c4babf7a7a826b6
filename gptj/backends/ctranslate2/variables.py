"""Weights for CTranslate2's writer that are read one at a time, while its file is written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ctranslate2.specs.model_spec import Variable

Array = npt.NDArray[Any]


class LazyVariable(Variable):
    """An array that is made when it is written."""

    def __init__(self, shape: tuple[int, ...], dtype: str, make: Callable[[], Array]) -> None:
        """Keep what makes the array; its dtype is cast to `dtype`, a name of NumPy or ml_dtypes."""
        self._shape, self._dtype, self.make = shape, dtype, make

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self._shape

    @property
    def dtype(self) -> str:
        """The name of the dtype in the file."""
        return self._dtype

    def numpy(self) -> Array:
        """Return a new array: the writer quantizes it in place."""
        return np.array(self.make(), dtype=self._dtype, order="C")

    def num_bytes(self) -> int:
        """Return the size in the file."""
        return int(np.prod(self._shape)) * np.dtype(self._dtype).itemsize

    def to_bytes(self) -> bytes:
        """Return the array's bytes."""
        return np.ascontiguousarray(self.make(), dtype=self._dtype).tobytes()

    def _to(self, dtype: str) -> "LazyVariable":
        return LazyVariable(self._shape, dtype, self.make)

    def _equal(self, other: Variable) -> bool:
        """Compare without reading: only one object in two places is stored once."""
        return self is other
