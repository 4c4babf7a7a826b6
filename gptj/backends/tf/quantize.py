"""Products with int8 weights. What the numbers mean: ``gptj.spec.rounding``."""

from collections.abc import Callable
from typing import Any, Final

import tensorflow as tf

Tensor = Any

BLOCK: Final = 2**19
"""Numbers of a weight that are widened at once on a CPU: few enough for its cache."""


def product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return (N, in) x (out, in) int8, times a scale per output, (N, out), as `x` in dtype.

    Gradients reach `x`, as those of an adapter further down have to.
    """
    weight, scale = tf.convert_to_tensor(weight), tf.convert_to_tensor(scale)
    compute = at_once if tf.config.list_logical_devices("GPU") else by_blocks

    @tf.custom_gradient
    def multiply(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return compute(x, weight, scale), lambda dy: tf.matmul(dy, widened(weight, scale, dy.dtype))

    return multiply(x)


def by_blocks(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product with float32 sums, where no widened copy of the weight is ever whole."""
    wide = tf.cast(x, tf.float32)
    outputs, inputs = weight.shape
    size = max(1, BLOCK // inputs)
    count = outputs // size
    y = _multiply(wide, weight[count * size :])
    if count:
        y = tf.concat((_multiply_blocks(wide, weight, count, size), y), axis=1)
    return tf.cast(y * scale, x.dtype)


def at_once(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product by the definition, which takes a GPU no time."""
    return tf.matmul(x, widened(weight, scale, x.dtype), transpose_b=True)


def widened(weight: Tensor, scale: Tensor, dtype: Any) -> Tensor:
    """Return what int8 numbers and scales mean, (out, in)."""
    return tf.cast(tf.cast(weight, tf.float32) * scale[:, None], dtype)


def _multiply(x: Tensor, rows: Tensor) -> Tensor:
    return tf.matmul(x, tf.cast(rows, tf.float32), transpose_b=True)


def _multiply_blocks(x: Tensor, weight: Tensor, count: int, size: int) -> Tensor:
    """Return the products with `count` blocks of `size` rows side by side, (N, count * size)."""

    def multiply(block: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        rows = tf.slice(weight, (block * size, 0), (size, weight.shape[1]))
        return block + 1, found.write(block, _multiply(x, rows))

    found = tf.TensorArray(tf.float32, count, element_shape=(x.shape[0], size))
    _, found = tf.while_loop(lambda block, _: block < count, multiply, (tf.constant(0), found))
    blocks = tf.transpose(found.stack(), (1, 0, 2))  # (N, count, size)
    return tf.reshape(blocks, (-1, count * size))
