"""Matmuls with int8 weights on processors that multiply int8: see ``gptj.spec.int8_limbs``."""

from typing import Final

import tensorflow as tf

from gptj.backends.tf.kernels.platforms import by_xla
from gptj.spec.int8_limbs import (
    BASE,
    LIMB_COUNTS,
    MAX_INPUTS,
    SMALLEST_LIMB,
    SMALLEST_MAXIMUM,
    largest_number,
)
from gptj.system.processor import multiplies_in

LIMB_TOKEN_COUNTS: Final = range(2, 33)
"""Numbers of tokens for which this is faster than blocks."""


def serves(x: tf.Tensor) -> bool:
    """Return whether this is the fastest way to multiply (N, in) with int8 on this CPU."""
    count, inputs = x.shape
    return multiplies_in("int8") and count in LIMB_TOKEN_COUNTS and inputs <= MAX_INPUTS


def describe() -> str:
    """Describe the numbers of tokens that this is taken for on this machine's CPU, if any."""
    return (
        f"int8 by int8 for {LIMB_TOKEN_COUNTS[0]} to {LIMB_TOKEN_COUNTS[-1]} tokens"
        if multiplies_in("int8")
        else ""
    )


def matmul(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Return (N, in) x (out, in) int8 in float32, (N, out), which passes no gradient on."""
    return by_xla(_matmul, tf.stop_gradient(x), weight)


def split_limbs(x: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the limbs of rows (N, in), lowest first, (count, N, in), and the steps (N, 1)."""
    wide = tf.cast(x, tf.float32)
    top = tf.reduce_max(tf.abs(wide), axis=-1, keepdims=True)
    is_finite = tf.reduce_all(tf.math.is_finite(wide), axis=-1, keepdims=True)
    # XLA's maximum, as TensorFlow has it, passes over NaN
    step = tf.where(is_finite, tf.maximum(top, SMALLEST_MAXIMUM), float("nan")) / largest_number(
        count
    )
    rest, limbs = tf.cast(tf.round(wide / step), tf.int32), []
    for _ in range(count):
        limb = (rest - SMALLEST_LIMB) % BASE + SMALLEST_LIMB
        limbs.append(tf.cast(limb, tf.int8))
        rest = (rest - limb) // BASE
    return tf.stack(limbs), step


def _matmul(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    limbs, step = split_limbs(x, LIMB_COUNTS[x.dtype.name])
    rows = tf.reshape(limbs, (-1, x.shape[1]))  # (count * N, in)
    sums = tf.matmul(rows, weight, transpose_b=True, output_type=tf.int32)
    places = tf.cast(tf.reshape(sums, (limbs.shape[0], -1, weight.shape[0])), tf.float32)
    return step * sum(
        float(BASE**place) * limb_sums for place, limb_sums in enumerate(tf.unstack(places))
    )
