"""Products with kernels in half precision and in int8, which lie (out, in): on a CPU, by blocks.

Where a processor has no instructions for such numbers, TensorFlow's own product with them takes
five times as long as one in float32. XLA widens them while it multiplies, faster than TensorFlow
operation by operation; a block at a time, so that no widened copy of a kernel is ever whole.
A single row it multiplies while it reads the numbers, if told what to add to what.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import tensorflow as tf

from gptj.backends.tf.kernels.half_precision import as_bits, upcast
from gptj.system.processor import multiplies_in

Tensor = Any

BLOCK_SIZE: Final = 2**19
"""Numbers of a kernel that are widened at once: few enough for a processor's cache."""

RUNS_SUMMED_TOGETHER: Final = 8
"""Runs of inputs that are added up at once for a single row: XLA fuses no more reads."""

RUN_LENGTH: Final = 32
"""Numbers of half precision in a run, a line of a processor's cache."""

MAX_XLA_WEIGHTS: Final = 2**24
"""Numbers of a kernel above which TensorFlow's own product reads bfloat16 faster for a row, too."""

SIGNIFICANT_BITS: Final = 3
"""Binary digits of the number of rows that a product is compiled for."""


def matmul(x: Tensor, kernel: Tensor) -> Tensor:
    """Return (N, in) x (out, in) in half precision, (N, out), in the dtype of `x`.

    A kernel given as bits, as in a compiled loop, is multiplied by blocks.
    """
    kernel = tf.convert_to_tensor(kernel)
    if is_native(kernel.dtype):
        return tf.matmul(x, kernel, transpose_b=True)

    @tf.custom_gradient
    def multiply(x: Tensor, kernel: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
        def gradient(dy: Tensor) -> tuple[Tensor, Tensor]:
            return tf.matmul(dy, kernel), tf.matmul(dy, x, transpose_a=True)

        return tf.cast(by_blocks(x, kernel), x.dtype), gradient

    return multiply(x, kernel)


def add(y: Tensor, other: Tensor) -> Tensor:
    """Return the sum of a product and something else, which no compiler puts into the product.

    XLA would compute a single row on one thread then; a subtraction it leaves alone. A graph of
    TensorFlow's would take thirty times as long in float16; between two casts it leaves all alone.
    """
    if y.dtype == tf.float16:
        return tf.cast(tf.cast(y, tf.float32) + tf.cast(other, tf.float32), y.dtype)
    return y - (-other)


def is_native(dtype: tf.DType) -> bool:
    """Return whether TensorFlow multiplies in a dtype as it is, on a GPU or on this CPU."""
    return has_gpu() or multiplies_in(dtype.name)


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def by_blocks(x: Tensor, kernel: Tensor) -> Tensor:
    """Return (N, in) x (out, in) with float32 sums, (N, out), which pass no gradient on.

    XLA compiles it for the number of rows; in a graph for any number it stays as it is.
    """
    return by_xla(_by_blocks, tf.stop_gradient(x), as_bits(tf.stop_gradient(kernel)))


def by_xla(matmul: Callable[[Tensor, Tensor], Tensor], x: Tensor, kernel: Tensor) -> Tensor:
    """Return a product of (N, in) and (out, in), compiled for the number of rows."""
    count = x.shape[0]
    if not count:
        return matmul(x, kernel)
    room = rounded_up(count)
    compiled = _compiled(matmul, room, x.dtype, tuple(kernel.shape), kernel.dtype)
    if room == count:  # as in most steps of decoding
        return compiled(x, kernel)
    return compiled(tf.pad(x, [[0, room - count], [0, 0]]), kernel)[:count]


def rounded_up(count: int) -> int:
    """Return a count of at most three binary digits before the zeros: few counts are compiled."""
    unit = 1 << max(0, count.bit_length() - SIGNIFICANT_BITS)
    return -(-count // unit) * unit


def describe(dtype: str) -> str:
    """Return what multiplies with numbers of a dtype; single rows are those of a decoding loop."""
    if dtype == "float32":
        return "TensorFlow"
    if not is_native(tf.as_dtype(dtype)):
        return describe_blocks()
    smaller = f", with kernels of up to {MAX_XLA_WEIGHTS} numbers," if dtype == "bfloat16" else ""
    return f"TensorFlow; for one token{smaller} {describe_blocks()}"


def describe_blocks() -> str:
    """Return what multiplies with numbers that are widened."""
    return f"XLA, {BLOCK_SIZE} numbers at a time"


@cache
def _compiled(
    matmul: Callable[[Tensor, Tensor], Tensor],
    count: int,
    dtype: tf.DType,
    shape: tuple[int, int],
    kernel: tf.DType,
) -> Any:
    """Return a product for `count` rows and for kernels of a shape and dtype."""
    inputs = tf.TensorSpec((count, shape[1]), dtype), tf.TensorSpec(shape, kernel)
    with tf.init_scope():  # whoever asks first may be tracing a graph of its own
        compiled = tf.function(matmul, jit_compile=True, autograph=False)
        return compiled.get_concrete_function(*inputs)


def _by_blocks(x: Tensor, kernel: Tensor) -> Tensor:
    """Return the product; half precision comes as its bits."""
    wide = tf.cast(x, tf.float32)
    outputs, inputs = kernel.shape
    size = max(1, BLOCK_SIZE // inputs)
    count = outputs // size
    y = _multiply(wide, kernel[count * size :])
    if not count:
        return y
    multiply = _multiply_block_by_row if x.shape[0] == 1 else _multiply_block
    return tf.concat((_side_by_side(multiply, wide, kernel, count, size), y), axis=1)


def _multiply(x: Tensor, rows: Tensor) -> Tensor:
    return tf.matmul(x, upcast(rows), transpose_b=True)


def _side_by_side(
    multiply: Callable[..., Tensor], x: Tensor, kernel: Tensor, count: int, size: int
) -> Tensor:
    """Return the products with `count` blocks of `size` rows side by side, (N, count * size)."""

    def write(block: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        return block + 1, found.write(block, multiply(x, kernel, block * size, size))

    found = tf.TensorArray(tf.float32, count, element_shape=(x.shape[0], size))
    _, found = tf.while_loop(lambda block, _: block < count, write, (tf.constant(0), found))
    blocks = tf.transpose(found.stack(), (1, 0, 2))  # (N, count, size)
    return tf.reshape(blocks, (-1, count * size))


def _multiply_block(x: Tensor, kernel: Tensor, start: Tensor, size: int) -> Tensor:
    """Return the product with some rows of a kernel, (N, size)."""
    return _multiply(x, tf.slice(kernel, (start, 0), (size, kernel.shape[1])))


def _multiply_block_by_row(x: Tensor, kernel: Tensor, start: Tensor, size: int) -> Tensor:
    """Return the product of a single row, (1, size), which XLA computes while it reads the kernel.

    It adds up runs of inputs, eight at a time, those sums, and then what is left of each row.
    """
    shape, axis = _runs(kernel.shape[1], kernel.dtype)
    cut = tf.reshape(kernel, (-1, *shape))

    def taken(place: int) -> Tensor:
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
