"""The keys and values of earlier tokens, in MLX's arrays."""

from typing import Self

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from gptj.model.array_cache import ArrayCache
from gptj.spec.config import GPTJConfig

LayerCache = tuple[mx.array, mx.array]
"""Keys and values of one layer, each (B, H, C, D) with room for C tokens."""


class KVCache(ArrayCache):
    """Keys and values of all layers for the first `length` tokens. Nothing here ever changes.

    One from `init_cache` keeps its size, and MLX writes into its memory if nobody else holds it.
    """

    def with_capacity(self, capacity: int) -> Self:
        """Return a preallocated copy that has room for `capacity` tokens."""
        missing = ((0, 0), (0, 0), (0, capacity - self.length), (0, 0))
        layers = [(mx.pad(key, missing), mx.pad(value, missing)) for key, value in self.filled()]
        return type(self)(layers, self.length, True, self.attended)

    def gather(self, rows: npt.ArrayLike) -> Self:
        """Return a cache of the given sequences, in that order."""
        on_host = np.asarray(rows)
        index = mx.array(on_host)
        layers = [(key[index], value[index]) for key, value in self.layers]
        attended = None if self.attended is None else self.attended[on_host]
        return type(self)(layers, self.length, self.preallocated, attended)


def init_cache(config: GPTJConfig, batch: int, capacity: int, dtype: mx.Dtype) -> KVCache:
    """Return an empty preallocated cache."""
    empty = mx.zeros((batch, config.n_head, capacity, config.head_dim), dtype)
    return KVCache([(empty, empty)] * config.n_layer, 0, preallocated=True)


def extend(
    past: LayerCache | None, key: mx.array, value: mx.array, start: int | mx.array
) -> LayerCache:
    """Return a layer's cache with the new keys and values (B, H, T, D) from `start` on."""
    if past is None:
        return key, value
    if isinstance(start, int) and past[0].shape[2] == start:  # no room is left
        return mx.concatenate((past[0], key), axis=2), mx.concatenate((past[1], value), axis=2)
    place = mx.array([start]) if isinstance(start, int) else start
    return mx.slice_update(past[0], key, place, axes=(2,)), mx.slice_update(
        past[1], value, place, axes=(2,)
    )
