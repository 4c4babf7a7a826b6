"""The keys and values of earlier tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gptj.backends.torch import params
from gptj.generation.length_buckets import bucket_length
from gptj.spec.cache_checks import check_copies, kept_length, known_rows
from gptj.spec.config import GPTJConfig

LayerCache = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (B, H, C, D) with room for C tokens."""


class KVCache:
    """Keys and values of all layers for the first `length` tokens.

    A cache that a forward returns is never changed by later calls: passing it back makes a longer
    copy, in buckets. One from `init_cache` is `preallocated`: later calls write into it, and the
    cache they return shares its memory.
    """

    def __init__(
        self,
        layers: Sequence[LayerCache],
        length: int,
        preallocated: bool = False,
        attended: Tensor | None = None,
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
        """Sequences; None in a cache of another library that is empty."""
        return self.layers[0][0].shape[0] if self.layers else None

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

    def room_for(self, count: int, limit: int) -> "KVCache":
        """Return a cache that `count` more tokens may be written into."""
        if self.preallocated:
            return self
        capacity = bucket_length(self.length + count, limit)
        return KVCache(self.with_capacity(capacity).layers, self.length, attended=self.attended)

    def with_capacity(self, capacity: int) -> "KVCache":
        """Return a preallocated copy that has room for `capacity` tokens."""
        layers = [
            (_copy_into(key, self.length, capacity), _copy_into(value, self.length, capacity))
            for key, value in self.layers
        ]
        return KVCache(layers, self.length, True, self.attended)

    def frozen(self) -> "KVCache":
        """Return the same as a cache that later calls leave as it is, and that grows."""
        return KVCache(self.layers, self.length, False, self.attended)

    def gather(self, rows: Tensor) -> "KVCache":
        """Return a cache of the given sequences, in that order."""
        layers, rows = [], torch.as_tensor(known_rows(rows, self.batch, params.concrete))
        for key, value in self.layers:
            rows = rows.to(key.device)  # layers may be on several
            layers.append((key[rows], value[rows]))
        attended = None if self.attended is None else self.attended[rows.to(self.attended.device)]
        return KVCache(layers, self.length, self.preallocated, attended)

    def expand(self, count: int) -> "KVCache":
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        check_copies(count)
        rows = torch.arange(self.batch or 0, device=self.layers[0][0].device)
        return self.gather(rows.repeat_interleave(count))

    def crop(self, length: int) -> "KVCache":
        """Return a cache of the first `length` tokens."""
        length = kept_length(length, params.concrete)
        return KVCache(self.layers, min(length, self.length), self.preallocated, self.attended)


def init_cache(
    config: GPTJConfig,
    batch: int,
    max_length: int,
    dtype: torch.dtype,
    devices: Sequence[torch.device],
) -> KVCache:
    """Return an empty preallocated cache, each layer on its own of the devices.

    Later calls write into its memory.
    """
    shape = (batch, config.n_head, max_length, config.head_dim)

    def empty(device: torch.device) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    return KVCache([(empty(device), empty(device)) for device in devices], 0, preallocated=True)


def extend(past: LayerCache | None, key: Tensor, value: Tensor, past_length: int) -> LayerCache:
    """Return the layer's cache with the new keys and values (B, H, T, D) after the past ones."""
    if past is None:
        return key, value
    end = past_length + key.shape[2]
    past[0][:, :, past_length:end] = key
    past[1][:, :, past_length:end] = value
    return past


def _copy_into(filled: Tensor, length: int, capacity: int) -> Tensor:
    """Return a new buffer with room for `capacity` tokens that starts with the filled ones."""
    shape = (*filled.shape[:2], capacity, filled.shape[3])
    buffer = filled.new_zeros(shape)
    buffer[:, :, :length] = filled[:, :, :length]
    return buffer
