"""Products with int8 weights. What the numbers mean: ``gptj.spec.rounding``."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from gptj.backends.tf import products

Tensor = Any


def product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return (N, in) x (out, in) int8, times a scale per output, (N, out), as `x` in dtype.

    Gradients reach `x`, as those of an adapter further down have to.
    """
    weight, scale = tf.convert_to_tensor(weight), tf.convert_to_tensor(scale)
    compute = at_once if products.has_gpu() else by_blocks

    @tf.custom_gradient
    def multiply(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return compute(x, weight, scale), lambda dy: tf.matmul(dy, widened(weight, scale, dy.dtype))

    return multiply(x)


def by_blocks(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product with float32 sums, where no widened copy of the weight is ever whole."""
    return tf.cast(products.by_blocks(x, weight) * scale, x.dtype)


def at_once(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product by the definition, which takes a GPU no time."""
    return tf.matmul(x, widened(weight, scale, x.dtype), transpose_b=True)


def widened(weight: Tensor, scale: Tensor, dtype: Any) -> Tensor:
    """Return what int8 numbers and scales mean, (out, in)."""
    return tf.cast(tf.cast(weight, tf.float32) * scale[:, None], dtype)
