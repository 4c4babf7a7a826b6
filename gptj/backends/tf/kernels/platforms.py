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
    count = x.shape[0]
    if not count:
        return matmul(x, weight)
    room = rounded_up(count)
    compiled = _compiled(matmul, room, x.dtype, tuple(weight.shape), weight.dtype)
    if room == count:  # as in most decode steps
        return compiled(x, weight)
    return compiled(tf.pad(x, [[0, room - count], [0, 0]]), weight)[:count]


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
