"""The keys and values of earlier tokens, in MLX's arrays."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from gptj.model.array_cache import Array, ArrayCache
from gptj_mlx.arrays import to_numpy


class KVCache(ArrayCache):
    """Keys and values of all layers for the first `length` tokens.

    MLX's arrays never change, but MLX writes into the memory of one that nobody holds. So a call
    puts the new arrays of a preallocated cache into the list that all its successors share.
    """

    def __getitem__(self, layer: int) -> tuple[Array, Array]:
        """Return one layer's filled keys and values, (B, H, S, D)."""
        key, value = super().__getitem__(layer)
        return to_numpy(key), to_numpy(value)

    def padded(self, buffer: Any, missing: Sequence[tuple[int, int]]) -> Any:
        """Return a buffer with zeros around it."""
        return mx.pad(buffer, missing)

    def rows(self, buffer: Any, index: Array) -> Any:
        """Return some sequences of a buffer."""
        return buffer[mx.array(index)]
