"""What neutral code may do with the keys and values of earlier tokens."""

from typing import Any, Protocol, Self

from gptj.spec.types import Tensor


class Cache(Protocol):
    """Keys and values of all layers for the first `length` tokens of every sequence.

    `Backend.init_cache` makes one that later calls write into; a model's output has the one to pass
    to the next call. Every method returns another cache.
    """

    @property
    def length(self) -> int:
        """Tokens that are filled; an array while the framework traces."""

    def __len__(self) -> int:
        """Return the number of layers."""

    def __getitem__(self, layer: int, /) -> tuple[Tensor, Tensor]:
        """Return one layer's filled keys and values, (B, H, S, D)."""

    def with_capacity(self, capacity: int) -> Self:
        """Return a preallocated copy that has room for `capacity` tokens."""

    def frozen(self) -> Self:
        """Return the same as a cache that later calls leave as it is, and that grows."""

    def gather(self, rows: Any) -> Self:
        """Return a cache of the given sequences, (N,) indices of the framework, in that order."""

    def expand(self, count: int) -> Self:
        """Return a cache with every sequence repeated `count` times, copies side by side."""

    def crop(self, length: int) -> Self:
        """Return a cache of the first `length` tokens."""
