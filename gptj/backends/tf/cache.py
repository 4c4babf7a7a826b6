"""The keys and values of earlier tokens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import tensorflow as tf
from keras import ops

from gptj.backends.tf import params
from gptj.backends.tf.kernels.bits import as_bits
from gptj.backends.tf.kernels.platforms import has_gpu
from gptj.generation.length_buckets import bucket_length
from gptj.spec.cache_checks import check_copies, kept_length, known_rows
from gptj.spec.config import GPTJConfig
from gptj.spec.types import DType

Tensor: TypeAlias = tf.Tensor

Length: TypeAlias = int | Tensor
"""A size or a length; a scalar tensor inside a graph that does not know it."""

LayerCache = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (B, H, C, D) with room for C tokens."""

_own_graph: ContextVar[bool] = ContextVar("gptj_tf_own_graph", default=False)


class KVCache:
    """Keys and values of all layers for the first `length` tokens.

    A cache is never changed by later calls, as tensors do not change: passing it back makes another
    one. One from `init_cache` is `preallocated`: it keeps its size, others grow in buckets.
    `length` is an integer, or a scalar tensor inside a graph that does not know it.
    """

    def __init__(
        self,
        layers: Sequence[LayerCache],
        length: Length,
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
        """Sequences; None where a graph leaves them open."""
        return self.layers[0][0].shape[0]

    @property
    def capacity(self) -> Length:
        """Tokens that the buffers have room for."""
        return ops.shape(self.layers[0][0])[2]

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def __getitem__(self, layer: int) -> LayerCache:
        """Return one layer's filled keys and values, (B, H, S, D)."""
        key, value = self.layers[layer]
        return key[:, :, : self.length], value[:, :, : self.length]

    def __tf_flatten__(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Take the cache apart for tf.function and tf.while_loop: metadata and tensors."""
        if isinstance(self.length, int):
            return (self.preallocated, self.length), (self.layers,)
        return (self.preallocated,), (self.layers, self.length)

    @classmethod
    def __tf_unflatten__(cls, metadata: tuple[Any, ...], components: Sequence[Any]) -> "KVCache":
        """Put a cache together again."""
        length = metadata[1] if len(metadata) > 1 else components[1]
        return cls(components[0], length, metadata[0])

    def room_for(self, count: Length, limit: int) -> "KVCache":
        """Return a cache that `count` more tokens may be written into."""
        if self.preallocated:
            return self
        if isinstance(self.length, int) and isinstance(count, int):
            capacity = bucket_length(self.length + count, limit)
        else:  # buckets need to know the length
            capacity = self.capacity + count
        return KVCache(self.with_capacity(capacity).layers, self.length, attended=self.attended)

    def with_capacity(self, capacity: Length) -> "KVCache":
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
        rows = tf.convert_to_tensor(known_rows(rows, self.batch, params.concrete))
        layers = [(tf.gather(key, rows), tf.gather(value, rows)) for key, value in self.layers]
        attended = None if self.attended is None else tf.gather(self.attended, rows)
        return KVCache(layers, self.length, self.preallocated, attended)

    def expand(self, count: int) -> "KVCache":
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        check_copies(count)
        rows = tf.range(ops.shape(self.layers[0][0])[0])
        return self.gather(tf.repeat(rows, count))

    def crop(self, length: int) -> "KVCache":
        """Return a cache of the first `length` tokens."""
        length = kept_length(length, params.concrete)
        shorter = min if isinstance(self.length, int) else tf.minimum
        length = shorter(length, self.length)
        return KVCache(self.layers, length, self.preallocated, self.attended)


def init_cache(config: GPTJConfig, batch: Length, max_length: Length, dtype: DType) -> KVCache:
    """Return an empty preallocated cache."""
    shape = (batch, config.n_head, max_length, config.head_dim)
    empty = tf.zeros(shape, dtype)
    return KVCache([(empty, empty) for _ in range(config.n_layer)], 0, preallocated=True)


def extend(past: LayerCache | None, key: Tensor, value: Tensor, past_length: Length) -> LayerCache:
    """Return the layer's cache with the new keys and values (B, H, T, D) after the past ones."""
    if past is None:
        return key, value
    return _write(past[0], key, past_length), _write(past[1], value, past_length)


@contextmanager
def in_own_graph() -> Iterator[None]:
    """Have a graph made that XLA will not compile, and whose caches nobody else holds.

    A graph cannot tell either. On a CPU such caches are written in place: a scatter of
    TensorFlow's copies the whole buffer each time; one of XLA's in a loop does not.
    """
    token = _own_graph.set(True)
    try:
        yield
    finally:
        _own_graph.reset(token)


def has_fixed_shapes() -> bool:
    """Return whether XLA may compile what is computed, so that all of a cache is looked at."""
    return not (tf.executing_eagerly() or _own_graph.get())


def _write(buffer: Tensor, new: Tensor, start: Length) -> Tensor:
    """Return the buffer (B, H, C, D) with new tokens (B, H, T, D) from `start` on.

    XLA would upcast a half-precision buffer for that, and is given its bits instead.
    """
    new = new if new.dtype == buffer.dtype else as_bits(new)
    batch, heads, capacity, width = ops.shape(buffer)
    texts = tf.range(batch * heads)[:, None] * capacity
    places = tf.reshape(texts + start + tf.range(ops.shape(new)[2]), (-1,))  # (B * H * T,)
    flat, rows = tf.reshape(buffer, (-1, width)), tf.reshape(new, (-1, width))  # (B * H * C, D)
    if _own_graph.get() and not has_gpu():
        written = tf.raw_ops.InplaceUpdate(x=flat, i=places, v=rows)
    else:
        written = tf.tensor_scatter_nd_update(flat, places[:, None], rows)
    return tf.reshape(written, ops.shape(buffer))


def _copy_into(filled: Tensor, length: Length, capacity: Length) -> Tensor:
    """Return a new buffer with room for `capacity` tokens that starts with the filled ones."""
    missing = capacity - ops.shape(filled)[2]
    if isinstance(missing, int) and missing < 0:  # a cropped cache: what it dropped may go
        return filled[:, :, :capacity]
    return tf.pad(filled, [[0, 0], [0, 0], [0, missing], [0, 0]])
