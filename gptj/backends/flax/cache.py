"""The keys and values of earlier tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gptj.backends.flax import params
from gptj.backends.flax.kernels.platforms import on_cpu
from gptj.generation.length_buckets import bucket_length
from gptj.spec.cache_checks import check_copies, kept_length, known_rows
from gptj.spec.config import GPTJConfig
from gptj.spec.tensor_checks import known_size

Array: TypeAlias = jax.Array
LayerCache = tuple[Array, Array]
"""Keys and values of one layer, each (B, H, C, D) with room for C tokens."""


@dataclass(init=False, eq=False, repr=False)  # Flax's tables of modules look into dataclasses
class KVCache:
    """Keys and values of all layers for the first `length` tokens.

    Nothing here ever changes: a call returns a new cache. One from `init_cache` is `preallocated`:
    it keeps its size, so that a compiled function that takes and returns it may be given its memory
    (``donate_argnums``) and then writes in place. Any other grows in buckets. While tracing,
    `length` is an array too.
    """

    layers: tuple[LayerCache, ...]
    length: int | Array
    preallocated: bool
    attended: Array | None

    def __init__(
        self,
        layers: Sequence[LayerCache],
        length: int | Array,
        preallocated: bool = False,
        attended: Array | None = None,
    ) -> None:
        """Keep the layers' buffers, of which the first `length` tokens are filled.

        `attended` is the mask (B, S) of the call that filled them; None if it had none, or a graph.
        """
        self.layers = tuple(layers)
        self.length = length
        self.preallocated = preallocated
        self.attended = attended

    @property
    def batch(self) -> int | None:
        """Sequences; None where a caller of ``jax.export`` leaves them open."""
        return known_size(self.layers[0][0].shape[0])

    @property
    def capacity(self) -> int:
        """Tokens that the buffers have room for."""
        capacity: int = self.layers[0][0].shape[2]  # jax.export: a size may be open
        return capacity

    @property
    def known_length(self) -> int | None:
        """The length as a number, or None while it is traced."""  # JAX: lengths may be traced
        return None if isinstance(self.length, jax.core.Tracer) else int(self.length)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def __getitem__(self, layer: int) -> LayerCache:
        """Return one layer's filled keys and values, (B, H, S, D); all there is while tracing."""
        key, value = self.layers[layer]
        return key[:, :, : self.known_length], value[:, :, : self.known_length]

    def room_for(self, count: int, limit: int) -> "KVCache":
        """Return a cache that `count` more tokens may be written into."""
        if self.preallocated:
            return self
        length = self.known_length
        if length is None:  # it is at most the capacity, and the model has made sure of the limit
            length = min(self.capacity, max(limit - count, 0))
        capacity = bucket_length(length + count, limit)
        return KVCache(self.with_capacity(capacity).layers, self.length, attended=self.attended)

    def with_capacity(self, capacity: int) -> "KVCache":
        """Return a preallocated copy that has room for `capacity` tokens."""
        layers = [
            (_copy_into(key, capacity), _copy_into(value, capacity)) for key, value in self.layers
        ]
        return KVCache(layers, self.length, True, self.attended)

    def frozen(self) -> "KVCache":
        """Return the same as a cache that later calls leave as it is, and that grows."""
        return KVCache(self.layers, self.length, False, self.attended)

    def gather(self, rows: Array) -> "KVCache":
        """Return a cache of the given sequences, in that order."""
        rows = jnp.asarray(known_rows(rows, self.batch, params.concrete))
        layers = [(key[rows], value[rows]) for key, value in self.layers]
        attended = None if self.attended is None else jnp.asarray(self.attended)[rows]
        return KVCache(layers, self.length, self.preallocated, attended)

    def expand(self, count: int) -> "KVCache":
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        check_copies(count)
        rows = jnp.arange(self.layers[0][0].shape[0], dtype=jnp.int32)
        return self.gather(rows.repeat(count))

    def crop(self, length: int) -> "KVCache":
        """Return a cache of the first `length` tokens."""
        length = kept_length(length, params.concrete)
        known = self.known_length
        shorter = jnp.minimum(self.length, length) if known is None else min(length, known)
        return KVCache(self.layers, shorter, self.preallocated, self.attended)


def init_cache(config: GPTJConfig, batch: int, max_length: int, dtype: DTypeLike) -> KVCache:
    """Return an empty preallocated cache, which keeps its size."""
    shape = (batch, config.n_head, max_length, config.head_dim)

    def empty() -> Array:
        return jnp.zeros(shape, dtype)

    return KVCache([(empty(), empty()) for _ in range(config.n_layer)], 0, preallocated=True)


def extend(
    past: LayerCache | None, key: Array, value: Array, past_length: int | Array
) -> LayerCache:
    """Return the layer's cache with the new keys and values (B, H, T, D) after the past ones."""
    if past is None:
        return key, value
    return _write(past[0], key, past_length), _write(past[1], value, past_length)


def _write(buffer: Array, new: Array, start: int | Array) -> Array:
    """Return the buffer (B, H, C, D) with new tokens (B, H, T, D) from `start` on."""
    write = _write_token if new.shape[2] == 1 else _write_slice
    return write(buffer, new.astype(buffer.dtype), start)


def _write_slice(buffer: Array, new: Array, start: int | Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(buffer, new, start, axis=2)


def _scatter(buffer: Array, new: Array, start: int | Array) -> Array:
    """Write a single token row by row.

    In a loop XLA's CPU kernels would write a slice twice, into the buffer and into what attention
    reads, and copy the buffer for it.
    """
    batch, heads, capacity, width = buffer.shape
    places = jnp.arange(batch * heads, dtype=jnp.int32) * capacity + start
    flat = buffer.reshape(-1, width)  # (B * H * C, D)
    rows = new.reshape(-1, width)
    written = flat.at[places].set(rows, indices_are_sorted=True, unique_indices=True)
    return written.reshape(buffer.shape)


_write_token = on_cpu(_scatter, _write_slice)


def _copy_into(filled: Array, capacity: int) -> Array:
    """Return a new buffer with room for `capacity` tokens that starts with the filled ones."""
    kept = filled[:, :, :capacity]
    return jnp.pad(kept, ((0, 0), (0, 0), (0, capacity - kept.shape[2]), (0, 0)))
