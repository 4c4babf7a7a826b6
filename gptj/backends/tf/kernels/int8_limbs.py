"""Products with int8 weights on processors that multiply int8 themselves: ``gptj.spec.digits``."""

from typing import Any, Final

import tensorflow as tf

from gptj.backends.tf.kernels.matmul import by_xla
from gptj.spec.digits import BASE, DIGITS, LEAST, MOST_INPUTS, SMALLEST_DIGIT, largest
from gptj.system.processor import multiplies_in

Tensor = Any

FEW: Final = range(2, 33)
"""Numbers of tokens for which this is faster than blocks."""


def serves(x: Tensor) -> bool:
    """Return whether this is the fastest way to multiply (N, in) with int8 on this CPU."""
    count, inputs = x.shape
    return multiplies_in("int8") and count in FEW and inputs <= MOST_INPUTS


def describe() -> str:
    """Return for how many tokens this is taken on this machine's CPU, or nothing."""
    return f"int8 by int8 for {FEW[0]} to {FEW[-1]} tokens" if multiplies_in("int8") else ""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return (N, in) x (out, in) int8 in float32, (N, out), which passes no gradient on."""
    return by_xla(_product, tf.stop_gradient(x), weight)


def split(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the digits of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    wide = tf.cast(x, tf.float32)
    top = tf.reduce_max(tf.abs(wide), axis=-1, keepdims=True)
    is_finite = tf.reduce_all(tf.math.is_finite(wide), axis=-1, keepdims=True)
    # XLA's maximum, as TensorFlow has it, passes over NaN
    step = tf.where(is_finite, tf.maximum(top, LEAST), float("nan")) / largest(count)
    rest, digits = tf.cast(tf.round(wide / step), tf.int32), []
    for _ in range(count):
        digit = (rest - SMALLEST_DIGIT) % BASE + SMALLEST_DIGIT
        digits.append(tf.cast(digit, tf.int8))
        rest = (rest - digit) // BASE
    return tf.stack(digits), step


def _product(x: Tensor, weight: Tensor) -> Tensor:
    digits, step = split(x, DIGITS[x.dtype.name])
    rows = tf.reshape(digits, (-1, x.shape[1]))  # (count * N, in)
    sums = tf.matmul(rows, weight, transpose_b=True, output_type=tf.int32)
    places = tf.cast(tf.reshape(sums, (digits.shape[0], -1, weight.shape[0])), tf.float32)
    return step * sum(float(BASE**place) * part for place, part in enumerate(tf.unstack(places)))
