"""Keys and values as ONNX Runtime returns them: they go into the next call without a copy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnxruntime import OrtValue

from gptj.model.array_cache import Array, LayerCache
from gptj.spec.cache_checks import check_copies, kept_length, known_rows

Values: TypeAlias = Sequence[Any]
"""Values of ONNX Runtime."""


@dataclass(frozen=True)
class OnnxCache:
    """Keys and values of all layers for the first `length` tokens; no call ever changes one.

    Attributes:
        values: keys and values of each layer in turn, (B, H, S, D) each.
        attended: the mask (B, S) of the call that filled them, or None.
        capacity: how many tokens it may hold, None for any number.
    """

    values: Values
    attended: Array | None = None
    capacity: int | None = None

    @classmethod
    def empty(cls, shape: tuple[int, ...], layers: int, capacity: int | None) -> "OnnxCache":
        """Return a cache of no tokens, whose keys and values have the shape (B, H, 0, D)."""
        return cls(
            [to_engine(np.zeros(shape, np.float32)) for _ in range(2 * layers)], None, capacity
        )

    @property
    def batch(self) -> int:
        """Sequences."""
        return int(self.values[0].shape()[0])

    @property
    def length(self) -> int:
        """Tokens that are filled."""
        return int(self.values[0].shape()[2])

    @property
    def preallocated(self) -> bool:
        """Whether it was made for a number of tokens."""
        return self.capacity is not None

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.values) // 2

    def __getitem__(self, layer: int) -> LayerCache:
        """Return a copy of one layer's keys and values, (B, H, S, D)."""
        if not -len(self) <= layer < len(self):
            raise IndexError(f"The cache has {len(self)} layers; found {layer}.")
        first = 2 * (layer % len(self))
        return self.values[first].numpy().copy(), self.values[first + 1].numpy().copy()

    def with_capacity(self, capacity: int) -> "OnnxCache":
        """Return the same as a cache that may hold `capacity` tokens."""
        return replace(self, capacity=capacity)

    def frozen(self) -> "OnnxCache":
        """Return the same as a cache that may hold any number."""
        return replace(self, capacity=None)

    def gather(self, rows: npt.ArrayLike) -> "OnnxCache":
        """Return a cache of the given sequences, in that order."""
        index = known_rows(rows, self.batch, np.asarray)
        attended = None if self.attended is None else self.attended[index]
        return self._changed(lambda values: values[index], attended)

    def expand(self, count: int) -> "OnnxCache":
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        check_copies(count)
        return self.gather(np.repeat(np.arange(self.batch), count))

    def crop(self, length: int) -> "OnnxCache":
        """Return a cache of the first `length` tokens."""
        length = kept_length(length, np.asarray)
        if length >= self.length:
            return self
        attended = None if self.attended is None else self.attended[:, :length]
        return self._changed(lambda values: values[:, :, :length].copy(), attended)

    def _changed(self, change: Callable[[Array], Array], attended: Array | None) -> "OnnxCache":
        """Return a cache of what `change` makes of all values, which must be copies.

        The array of a value does not keep the memory behind it.
        """
        values = [to_engine(change(value.numpy())) for value in self.values]
        return replace(self, values=values, attended=attended)


def to_engine(array: Array) -> Any:
    """Return an array as a value of ONNX Runtime."""
    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
