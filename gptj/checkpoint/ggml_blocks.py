"""The number types of ggml files: floats, and quantized blocks of 32 numbers of a row.

A block has a scale in float16, perhaps the smallest number, and 32 whole numbers of four, five or
eight bits. Half a byte holds two: the low halves are the first sixteen numbers, the high halves the
others; fifth bits lie apart. Values are those of version 2 of the blocks, of May 2023.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.errors import CheckpointError

BLOCK: Final = 32
"""Numbers of a block."""

VERSION: Final = 2
"""The version of the blocks, which a file's ftype has in its thousands."""

_PIECE: Final = 2**20
"""Numbers that are quantized or dequantized at a time."""

_SCALE: Final = ("scale", "<f2")
_MINIMUM: Final = ("minimum", "<f2")
_FIFTH: Final = ("fifth", "u1", (BLOCK // 8,))
_HALVES: Final = ("halves", "u1", (BLOCK // 2,))


@dataclass(frozen=True)
class NumberType:
    """How numbers are stored.

    Attributes:
        code: its number in the header of a tensor.
        ftype: its number in the header of a file of such weights, without the version.
        stored: the dtype of a block, or of a number where there are no blocks.
        bits: of a quantized number; 0 for floats.
        zero: the whole number that stands for zero, where a block has no minimum.
    """

    code: int
    ftype: int
    stored: np.dtype[Any]
    bits: int = 0
    zero: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """What a block consists of; nothing where there are no blocks."""
        return self.stored.names or ()

    @property
    def per_block(self) -> int:
        """Numbers that `stored` holds."""
        return BLOCK if self.bits else 1


TYPES: Final = {
    "f32": NumberType(0, 0, np.dtype("<f4")),
    "f16": NumberType(1, 1, np.dtype("<f2")),
    "q4_0": NumberType(2, 2, np.dtype([_SCALE, _HALVES]), 4, 8),
    "q4_1": NumberType(3, 3, np.dtype([_SCALE, _MINIMUM, _HALVES]), 4),
    "q5_0": NumberType(6, 8, np.dtype([_SCALE, _FIFTH, _HALVES]), 5, 16),
    "q5_1": NumberType(7, 9, np.dtype([_SCALE, _MINIMUM, _FIFTH, _HALVES]), 5),
    "q8_0": NumberType(8, 7, np.dtype([_SCALE, ("bytes", "i1", (BLOCK,))]), 8),
}
"""Name -> type."""

QUANTIZED: Final = tuple(name for name, kind in TYPES.items() if kind.bits)


def dequantized(blocks: npt.NDArray[Any], kind: NumberType) -> npt.NDArray[np.float32]:
    """Return the numbers of blocks, (rows, blocks) -> (rows, 32 * blocks), rounded nowhere."""
    rows, count = blocks.shape
    whole = np.empty((rows, count, BLOCK), np.float32)
    step = max(1, _PIECE // max(1, count * BLOCK))
    for start in range(0, rows, step):
        piece = blocks[start : start + step]
        part = whole[start : start + step]
        np.multiply(_integers(piece, kind), _wide(piece["scale"]), out=part)
        if "minimum" in kind.fields:
            part += _wide(piece["minimum"])
    return whole.reshape(rows, count * BLOCK)


def quantized(
    array: npt.NDArray[Any], kind: NumberType, name: str
) -> Iterator[npt.NDArray[np.void]]:
    """Yield the blocks of a matrix, some rows at a time: (rows, in) -> (rows, in / 32).

    Raises:
        CheckpointError: for numbers that no block holds, under the tensor's name.
    """
    step = max(1, _PIECE // array.shape[1])
    for start in range(0, len(array), step):
        rows = array[start : start + step].astype(np.float32)
        if not np.isfinite(rows).all():
            raise CheckpointError(f"{name} holds NaN or infinity, which no quantized block can.")
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            blocks = _blocks(rows.reshape(len(rows), -1, BLOCK), kind)
        halves = [blocks[field] for field in ("scale", "minimum") if field in kind.fields]
        if not all(np.isfinite(half).all() for half in halves):
            raise CheckpointError(
                f"{name} holds {np.abs(rows).max()}, too much for blocks, whose scales are "
                "float16. Without quantize, ggml holds it in float32."
            )
        yield blocks


def _blocks(numbers: npt.NDArray[np.float32], kind: NumberType) -> npt.NDArray[np.void]:
    """Return blocks of numbers, (rows, blocks, 32) -> (rows, blocks)."""
    blocks = np.zeros(numbers.shape[:2], kind.stored)
    if "minimum" in kind.fields:
        low = numbers.min(axis=-1, keepdims=True)
        scale = (numbers.max(axis=-1, keepdims=True) - low) / np.float32(2**kind.bits - 1)
        whole = np.trunc((numbers - low) * _inverse(scale) + np.float32(0.5))
        blocks["minimum"] = low[..., 0].astype(np.float16)
    elif kind.zero:  # the number of the largest magnitude becomes the smallest integer, exactly
        place = np.abs(numbers).argmax(axis=-1, keepdims=True)
        scale = np.take_along_axis(numbers, place, axis=-1) / np.float32(-kind.zero)
        whole = np.trunc(numbers * _inverse(scale) + np.float32(kind.zero + 0.5))
    else:
        scale = np.abs(numbers).max(axis=-1, keepdims=True) / np.float32(127)
        whole = _rounded(numbers * _inverse(scale))
    blocks["scale"] = scale[..., 0].astype(np.float16)
    if "bytes" in kind.fields:
        blocks["bytes"] = whole.astype(np.int8)
        return blocks
    integers = whole.clip(0, 2**kind.bits - 1).astype(np.uint8)
    low_half, high_half = integers[..., : BLOCK // 2], integers[..., BLOCK // 2 :]
    blocks["halves"] = low_half & 15 | (high_half & 15) << 4
    if kind.bits == 5:
        blocks["fifth"] = np.packbits(integers >> 4, axis=-1, bitorder="little")
    return blocks


def _integers(blocks: npt.NDArray[Any], kind: NumberType) -> npt.NDArray[np.float32]:
    """Return the whole numbers of blocks, (rows, blocks, 32), less their zero."""
    if "bytes" in kind.fields:
        return blocks["bytes"].astype(np.float32)
    halves = blocks["halves"]
    integers = np.concatenate([halves & 15, halves >> 4], axis=-1)
    if kind.bits == 5:
        integers |= np.unpackbits(blocks["fifth"], axis=-1, bitorder="little") << 4
    return integers.astype(np.float32) - np.float32(kind.zero)


def _wide(numbers: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Return a number per block in float32, with an axis for the block's own."""
    return numbers.astype(np.float32)[..., None]


def _inverse(scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 1 / scale, and 0 for a block of zeros, or of numbers too small for a scale."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _rounded(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return whole numbers; halves are rounded away from zero, unlike NumPy does."""
    size = np.abs(numbers)
    whole = np.floor(size)
    return np.copysign(whole + (size - whole >= 0.5), numbers)
