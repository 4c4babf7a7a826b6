"""Products with int8 weights. What the numbers mean: ``gptj.spec.rounding``."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from gptj.backends.tf import digits, products

Tensor = Any


def product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return (N, in) x (out, in) int8, times a scale per output, (N, out), as `x` in dtype.

    Gradients reach `x`, as those of an adapter further down have to.
    """
    weight, scale = tf.convert_to_tensor(weight), tf.convert_to_tensor(scale)
    compute = _fastest(x)

    @tf.custom_gradient
    def multiply(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return compute(x, weight, scale), lambda dy: tf.matmul(dy, widened(weight, scale, dy.dtype))

    return multiply(x)


def by_blocks(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product with float32 sums, where no widened copy of the weight is ever whole."""
    return tf.cast(products.by_blocks(x, weight) * scale, x.dtype)


def by_digits(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product with exact sums, by digits of `x`."""
    return tf.cast(digits.product(x, weight) * scale, x.dtype)


def at_once(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product by the definition, which takes a GPU no time."""
    return tf.matmul(x, widened(weight, scale, x.dtype), transpose_b=True)


def widened(weight: Tensor, scale: Tensor, dtype: Any) -> Tensor:
    """Return what int8 numbers and scales mean, (out, in)."""
    return tf.cast(tf.cast(weight, tf.float32) * scale[:, None], dtype)


def describe() -> str:
    """Return in words what multiplies with int8 weights on this machine's CPU."""
    return "; else ".join(filter(None, (digits.describe(), products.describe_blocks())))


def _fastest(x: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return what multiplies with (N, in) on this machine."""
    if products.has_gpu():
        return at_once
    return by_digits if digits.serves(x) else by_blocks
