"""Uncompressed bytes in a file as memory-mapped arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)

DTYPES: Final = {
    **{
        name: np.dtype(name)
        for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")
    },
    "bfloat16": BFLOAT16,
    "bool": np.dtype(np.bool_),
}
"""NumPy's name -> dtype, for the dtypes that a checkpoint may hold, buffers included."""

FLOAT8: Final = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")
    if hasattr(ml_dtypes, name)
}

WIDE: Final = ("uint16", "uint32", "uint64", "complex64", "complex128")

READABLE: Final = {
    **DTYPES,
    **FLOAT8,
    **{name: np.dtype(name) for name in WIDE},
}
"""The same for all that is read; what is not in `DTYPES` no weight of a model may have."""


def map_array(
    path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Return a copy-on-write map of an array in a file."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, mode="c", offset=offset, shape=shape)


@dataclass(frozen=True)
class Region:
    """A range of bytes in a file."""

    path: Path
    offset: int
    size: int

    def map(self, dtype: np.dtype[Any], skip: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return a map of an array that begins `skip` bytes into the region."""
        return map_array(self.path, dtype, self.offset + skip, shape)
