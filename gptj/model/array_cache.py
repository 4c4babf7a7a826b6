"""Keys and values in NumPy arrays: the cache of backends whose tensors these are."""

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.spec.cache_checks import check_copies, kept_length, known_rows

Array: TypeAlias = npt.NDArray[Any]

LayerCache: TypeAlias = tuple[Array, Array]
"""Keys and values of one layer, each (B, H, C, D) with room for C tokens."""


class ArrayCache:
    """Keys and values of all layers for the first `length` tokens.

    One that a forward returns is never changed by later calls. One from `init_cache` is
    `preallocated`: later calls write into it, and the cache they return shares its memory.
    """

    def __init__(
        self,
        layers: Sequence[LayerCache],
        length: int,
        preallocated: bool = False,
        attended: Array | None = None,
    ) -> None:
        """Keep the layers' buffers, of which the first `length` tokens are filled.

        A `preallocated` cache keeps the sequence itself: a backend whose arrays never change puts
        the new ones into it.

        `attended` is the mask (B, S) of the call that filled them, or None.
        """
        self.layers = layers if preallocated else tuple(layers)
        self.length = length
        self.preallocated = preallocated
        self.attended = attended

    @property
    def batch(self) -> int:
        """Sequences."""
        return len(self.layers[0][0])

    @property
    def capacity(self) -> int:
        """Tokens that the buffers have room for."""
        return int(self.layers[0][0].shape[2])

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def __getitem__(self, layer: int) -> LayerCache:
        """Return one layer's filled keys and values, (B, H, S, D)."""
        key, value = self.layers[layer]
        return key[:, :, : self.length], value[:, :, : self.length]

    def filled(self) -> list[LayerCache]:
        """Return every layer's filled keys and values."""
        return [self[layer] for layer in range(len(self))]

    def with_capacity(self, capacity: int) -> Self:
        """Return a preallocated copy that has room for `capacity` tokens."""
        missing = ((0, 0), (0, 0), (0, capacity - self.length), (0, 0))
        filled = [
            (key[:, :, : self.length], value[:, :, : self.length]) for key, value in self.layers
        ]
        layers = [(self.padded(key, missing), self.padded(value, missing)) for key, value in filled]
        return type(self)(layers, self.length, True, self.attended)

    def frozen(self) -> Self:
        """Return the same as a cache that grows, and that later calls do not change."""
        return type(self)(self.layers, self.length, False, self.attended)

    def gather(self, rows: npt.ArrayLike) -> Self:
        """Return a cache of the given sequences, in that order."""
        index = known_rows(rows, self.batch, np.asarray)
        layers = [(self.rows(key, index), self.rows(value, index)) for key, value in self.layers]
        attended = None if self.attended is None else self.attended[index]
        return type(self)(layers, self.length, self.preallocated, attended)

    def padded(self, buffer: Array, missing: Sequence[tuple[int, int]]) -> Array:
        """Return a buffer with zeros around it; for overrides, where arrays are not NumPy's."""
        return np.pad(buffer, missing)

    def rows(self, buffer: Array, index: Array) -> Array:
        """Return some sequences of a buffer; for overrides, too."""
        return buffer[index]

    def expand(self, count: int) -> Self:
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        check_copies(count)
        return self.gather(np.repeat(np.arange(self.batch), count))

    def crop(self, length: int) -> Self:
        """Return a cache of the first `length` tokens."""
        length = kept_length(length, np.asarray)
        length = min(length, self.length)
        return type(self)(self.layers, length, self.preallocated, self.attended)

    def extended(self, layers: Sequence[LayerCache]) -> Self:
        """Return the cache after a call whose keys and values, past and new, are `layers`."""
        total = layers[0][0].shape[2]
        if not self.preallocated:
            return type(self)(layers, total)
        for buffers, computed in zip(self.layers, layers, strict=True):
            for buffer, values in zip(buffers, computed, strict=True):
                buffer[:, :, self.length : total] = values[:, :, self.length :]
        return type(self)(self.layers, total, preallocated=True)
