"""Where TensorFlow computes, and matmuls that XLA compiles for it."""

from collections.abc import Callable
from functools import cache
from typing import Final

import tensorflow as tf

SIGNIFICANT_BITS: Final = 3
"""Significant bits of the number of rows that a matmul is compiled for."""


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def by_xla(
    matmul: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], x: tf.Tensor, weight: tf.Tensor
) -> tf.Tensor:
    """Return the matmul of (N, in) and (out, in), compiled for the number of rows."""
    room = room_for(x)
    if not room:
        return matmul(x, weight)
    compiled = _compiled(matmul, room, x.dtype, tuple(weight.shape), weight.dtype)
    return in_room(compiled, room, x, weight)


def in_room(
    compiled: Callable[..., tf.Tensor], room: int | None, x: tf.Tensor, *others: tf.Tensor
) -> tf.Tensor:
    """Return a matmul of (N, in) that is compiled for `room` rows, None for any number."""
    count = x.shape[0]
    if room in (None, count):  # as in most decode steps
        return compiled(x, *others)
    return compiled(tf.pad(x, [[0, room - count], [0, 0]]), *others)[:count]


def room_for(x: tf.Tensor) -> int | None:
    """Return the number of rows that a matmul of (N, in) is compiled for, None where unknown."""
    return None if x.shape[0] is None else rounded_up(x.shape[0])


def rounded_up(count: int) -> int:
    """Return a count with at most three significant bits: few counts are compiled."""
    unit = 1 << max(0, count.bit_length() - SIGNIFICANT_BITS)
    return -(-count // unit) * unit


@cache
def _compiled(
    matmul: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    count: int,
    dtype: tf.DType,
    shape: tuple[int, int],
    weight_dtype: tf.DType,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a matmul for `count` rows and for weights of a shape and dtype."""
    inputs = tf.TensorSpec((count, shape[1]), dtype), tf.TensorSpec(shape, weight_dtype)
    with tf.init_scope():  # the first caller may be tracing another graph
        compiled = tf.function(matmul, jit_compile=True, autograph=False)
        return compiled.get_concrete_function(*inputs)
