"""Matmuls on a CPU with weights in half precision or int8, which lie (out, in), by blocks.

Where a processor has no instructions for such numbers, TensorFlow's own matmul with them takes
five times as long as one in float32. XLA upcasts them while it multiplies, faster than TensorFlow
operation by operation; a block at a time, so that the upcast weight is never whole. A single row it
multiplies while it reads the numbers, if the additions are spelled out.
"""

import math
from collections.abc import Callable
from typing import Final

import tensorflow as tf

from gptj.backends.tf.kernels.bits import as_bits, upcast
from gptj.backends.tf.kernels.own_gradient import with_gradient
from gptj.backends.tf.kernels.platforms import by_xla, has_gpu, room_for
from gptj.system.processor import multiplies_in

BLOCK_SIZE: Final = {tf.float32: 2**19}
"""Numbers of a weight that are upcast at a time: few enough for a processor's cache."""

RUNS_SUMMED_TOGETHER: Final = 8
"""Runs of inputs that are added up together for a single row: XLA fuses no more reads."""

RUN_LENGTH: Final = 32
"""Numbers of half precision in a run, a line of a processor's cache."""


def is_native(dtype: tf.DType) -> bool:
    """Return whether TensorFlow multiplies in a dtype as it is, on a GPU or on this CPU."""
    return has_gpu() or multiplies_in(dtype.name)


def upcast_dtype(x: tf.Tensor) -> tf.DType:
    """Return the dtype that weights are upcast to for `x`: its own bfloat16 if it is native."""
    is_own = x.dtype == tf.bfloat16 and is_native(x.dtype)
    return tf.bfloat16 if is_own else tf.float32


def matmul(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Return (N, in) x (out, in), (N, out), in the dtype of `x`, with sums in float32."""
    return with_gradient(_by_blocks_as_x, _gradient, room_for(x), x, weight)


def by_blocks(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Return (N, in) x (out, in) in float32, (N, out), which passes no gradient on.

    XLA compiles it for the number of rows; in a graph for any number it stays as it is.
    """
    return by_xla(_by_blocks, tf.stop_gradient(x), as_bits(tf.stop_gradient(weight)))


def multiply(x: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """Return (N, in) x (rows, in) in float32; the block may be bits."""
    return tf.matmul(x, upcast(block), transpose_b=True)


def describe_blocks() -> str:
    """Describe how weights are upcast."""
    return f"XLA, {in_words(tf.float32)}"


def in_words(dtype: tf.DType) -> str:
    """Describe the blocks of a dtype."""
    return f"{BLOCK_SIZE[dtype]} numbers at a time"


def _by_blocks_as_x(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return tf.cast(by_blocks(x, weight), x.dtype)


def _gradient(dy: tf.Tensor, x: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.matmul(dy, weight), tf.matmul(dy, x, transpose_a=True)


def _by_blocks(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Return the matmul; half precision comes as its bits."""
    wide = tf.cast(x, tf.float32)
    outputs, inputs = weight.shape
    size = max(1, BLOCK_SIZE[tf.float32] // inputs)
    count = outputs // size
    y = multiply(wide, weight[count * size :])
    if not count:
        return y
    multiply_block = _multiply_block_by_row if x.shape[0] == 1 else _multiply_block
    return tf.concat((_side_by_side(multiply_block, wide, weight, count, size), y), axis=1)


def _side_by_side(
    multiply_block: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int], tf.Tensor],
    x: tf.Tensor,
    weight: tf.Tensor,
    count: int,
    size: int,
) -> tf.Tensor:
    """Return the matmuls with `count` blocks of `size` rows side by side, (N, count * size)."""

    def write(block: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return block + 1, found.write(block, multiply_block(x, weight, block * size, size))

    found = tf.TensorArray(tf.float32, count, element_shape=(x.shape[0], size))
    _, found = tf.while_loop(lambda block, _: block < count, write, (tf.constant(0), found))
    blocks = tf.transpose(found.stack(), (1, 0, 2))  # (N, count, size)
    return tf.reshape(blocks, (-1, count * size))


def _multiply_block(x: tf.Tensor, weight: tf.Tensor, start: tf.Tensor, size: int) -> tf.Tensor:
    """Return the matmul with some rows of a weight, (N, size)."""
    return multiply(x, tf.slice(weight, (start, 0), (size, weight.shape[1])))


def _multiply_block_by_row(
    x: tf.Tensor, weight: tf.Tensor, start: tf.Tensor, size: int
) -> tf.Tensor:
    """Return the matmul of a single row, (1, size), which XLA computes while it reads the weight.

    It adds up runs of inputs, eight at a time, those sums, and then what is left of each row.
    """
    shape, axis = _runs(weight.shape[1], weight.dtype)
    cut = tf.reshape(weight, (-1, *shape))

    def taken(place: int) -> tf.Tensor:
        begin, length = [start, 0, 0, 0], [size, *shape]
        begin[axis], length[axis] = place, 1
        return upcast(tf.squeeze(tf.slice(cut, begin, length), axis))

    row = tf.unstack(tf.reshape(x, (1, *shape)), axis=axis)
    sums = tf.add_n([numbers * taken(place) for place, numbers in enumerate(row)])
    sums = tf.add_n(tf.unstack(sums, axis=1))  # (size, run)
    return tf.linalg.matvec(sums, tf.ones(shape[-1]))[None]


def _runs(inputs: int, dtype: tf.DType) -> tuple[tuple[int, int, int], int]:
    """Return how inputs are cut into runs, (.., .., run), and the axis that is added up first.

    Eight runs of int8 that are added up first lie far apart, those of half precision side by side:
    the other way around, each reads about a tenth to a third fewer numbers a second.
    """
    first = math.gcd(inputs, RUNS_SUMMED_TOGETHER)
    rest = inputs // first
    if dtype == tf.int8:
        second = math.gcd(rest, RUNS_SUMMED_TOGETHER)
        return (first, second, rest // second), 1
    second = math.gcd(rest, 1 << max(1, rest // RUN_LENGTH).bit_length() - 1)
    return (second, first, rest // second), 2
