"""Weights in few bits: what the stored numbers mean, and how a weight becomes such numbers.

A weight (out, in) is cut into groups along its inputs, and every group has a scale in float32:
``w = q * scale``. The scale is the largest number of the group divided by the largest q, so that 0
stays exact and the rounding error is half a scale at most.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.errors import CheckpointError

Array = npt.NDArray[Any]
Scales = npt.NDArray[np.float32]

ROWS_AT_A_TIME: Final = 256
"""Rows that are computed at a time, so that only the result is as large as the weight."""

GROUP: Final = 128
"""Inputs that share a scale in four bits."""

OFFSET: Final = 8
"""Added to a number of four bits where it is stored, so that it is not negative."""


def pack_bytes(numbers: Array) -> Array:
    """Return numbers of eight bits (rows, in) as they are stored, int8."""
    return numbers.astype(np.int8)


def unpack_bytes(stored: Array) -> Array:
    """Return the numbers of int8 (rows, in): they are stored as they are."""
    return stored


def pack_nibbles(numbers: Array) -> Array:
    """Return numbers of four bits (rows, in) as they are stored, two a byte: (rows, in / 2) uint8.

    The low half of byte j of a group is number j of the group, the high half is number
    j + GROUP / 2. Unpacked, both halves of a group are contiguous.
    """
    halves = (numbers + OFFSET).astype(np.uint8).reshape(len(numbers), -1, 2, GROUP // 2)
    return (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(len(numbers), -1)


def unpack_nibbles(stored: Array) -> Array:
    """Return the numbers of bytes (rows, in / 2), (rows, in) int8."""
    halves = stored.reshape(len(stored), -1, GROUP // 2)
    numbers = np.concatenate((halves & 15, halves >> 4), axis=2).astype(np.int8) - np.int8(OFFSET)
    return numbers.reshape(len(stored), -1)


@dataclass(frozen=True, eq=False)
class Quantizer:
    """One way to store weights in few bits.

    Attributes:
        name: the choice of callers.
        bits: of a number.
        group: inputs that share a scale, None if a whole row does.
        dtype: of the stored weight.
        description: the ``quantization_config`` of a configuration.
        pack: from whole numbers (rows, in) to the stored ones.
        unpack: the way back, to int8.
    """

    name: str
    bits: int
    group: int | None
    dtype: str
    description: Mapping[str, Any]
    pack: Callable[[Array], Array]
    unpack: Callable[[Array], Array]

    @property
    def largest(self) -> int:
        """The largest number; the smallest is its negative."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def unit(self) -> str:
        """The unit that has a scale, in words."""
        return "row" if self.group is None else f"{self.group} numbers of a row"

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the stored shape of a weight (out, in)."""
        bits = self.bits * shape[1]
        return (shape[0], bits // 8)

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the scales of a weight (out, in): (out,), or (out, groups)."""
        return shape[:1] if self.group is None else (shape[0], shape[1] // self.group)

    def scales(self, weight: Array) -> Scales:
        """Return the scales of a weight (out, in); 1 for a group that is all zero.

        Raises:
            CheckpointError: for numbers that are not finite.
        """
        scale = np.empty(self.scale_shape(weight.shape), np.float32)
        for rows in _row_blocks(weight):
            grouped = np.abs(weight[rows].astype(np.float32)).reshape(*scale[rows].shape, -1)
            scale[rows] = grouped.max(axis=-1) / np.float32(self.largest)
        if not np.isfinite(scale).all():
            row = int(np.argwhere(~np.isfinite(scale))[0, 0])
            raise CheckpointError(
                f"Row {row} holds numbers that are not finite, which {self.name} cannot express; "
                "`gptj inspect` names the tensors that do."
            )
        scale[scale == 0] = 1.0  # also if the quotient is too small for a float32
        return scale

    def quantize(self, weight: Array, scale: Scales) -> Array:
        """Return the stored form of (out, in) with these scales, rounded half to even."""
        result = np.empty(self.stored_shape(weight.shape), self.dtype)
        for rows in _row_blocks(weight):
            grouped = weight[rows].astype(np.float32).reshape(*scale[rows].shape, -1)
            whole = np.rint(grouped / scale[rows][..., None]).clip(-self.largest, self.largest)
            result[rows] = self.pack(whole.reshape(weight[rows].shape))
        return result

    def dequantize(self, stored: Array, scale: Scales, dtype: npt.DTypeLike = np.float32) -> Array:
        """Return the weight of stored numbers and scales, (out, in); exact in float64."""
        exact = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        result = np.empty((len(stored), stored.shape[1] * 8 // self.bits), dtype)
        for rows in _row_blocks(stored):
            numbers = self.unpack(stored[rows])
            grouped = numbers.reshape(*scale[rows].shape, -1)
            meant = np.multiply(grouped, scale[rows][..., None], dtype=exact)
            result[rows] = meant.reshape(numbers.shape)
        return result


def _row_blocks(array: Array) -> Iterator[slice]:
    """Yield slices of a few rows each, in order, that cover all rows."""
    return (slice(start, start + ROWS_AT_A_TIME) for start in range(0, len(array), ROWS_AT_A_TIME))
