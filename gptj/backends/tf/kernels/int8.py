"""Matmuls with int8 weights. What the numbers mean: ``gptj.spec.quantizers``."""

from collections.abc import Callable
from typing import Any, Final

import tensorflow as tf

from gptj.backends.tf.kernels import half_precision, int8_limbs, linear

Tensor = Any

MIN_SLICED_TOKENS: Final = 64
"""Number of tokens from which on TensorFlow's own products with widened parts are the fastest."""

SLICE_SIZE: Final = 2**24
"""Numbers that are widened at once for them: enough for a product to reach its pace."""


def matmul(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return (N, in) x (out, in) int8, times a scale per output, (N, out), as `x` in dtype.

    Gradients reach `x`, as those of an adapter further down have to.
    """
    weight, scale = tf.convert_to_tensor(weight), tf.convert_to_tensor(scale)
    compute = _fastest(x)

    @tf.custom_gradient
    def multiply(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return compute(x, weight, scale), lambda dy: tf.matmul(
            dy, _dequantized_for(dy, weight, scale)
        )

    return multiply(x)


def by_blocks(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product with float32 sums, where no widened copy of the weight is ever whole."""
    return tf.cast(linear.by_blocks(x, weight) * scale, x.dtype)


def by_limbs(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product with exact sums, by digits of `x`."""
    return tf.cast(int8_limbs.matmul(x, weight) * scale, x.dtype)


def by_slices(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product by TensorFlow's own ones with parts of the outputs, compiled for no shape.

    They are in bfloat16 where `x` is and the processor multiplies in it: its eight bits hold all
    weights as they are. Without their scale float16 could not hold the sums.
    """
    is_own = x.dtype == tf.bfloat16 and linear.is_native(x.dtype)
    rows = x if is_own else tf.cast(x, tf.float32)
    outputs, inputs = weight.shape
    size = max(1, SLICE_SIZE // inputs)
    blocks, before = [], rows
    for start in range(0, outputs, size):
        with tf.control_dependencies([before]):  # as in `_widened_for`
            block = tf.cast(weight[start : start + size], rows.dtype)
        before = tf.matmul(rows, block, transpose_b=True)
        blocks.append(before)
    return tf.cast(tf.cast(tf.concat(blocks, axis=1), tf.float32) * scale, x.dtype)


def by_definition(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the product by the definition, which takes a GPU no time."""
    return tf.matmul(x, _dequantized_for(x, weight, scale), transpose_b=True)


def dequantized(weight: Tensor, scale: Tensor, dtype: Any) -> Tensor:
    """Return what int8 numbers and scales mean, (out, in)."""
    return tf.cast(tf.cast(weight, tf.float32) * scale[:, None], dtype)


def describe() -> str:
    """Return in words what multiplies with int8 weights on this machine's CPU."""
    sliced = f"TensorFlow from {MIN_SLICED_TOKENS} tokens on, {SLICE_SIZE} numbers at a time"
    return "; else ".join(filter(None, (int8_limbs.describe(), sliced, linear.describe_blocks())))


def _dequantized_for(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return what int8 numbers and scales mean, in the dtype of `x`, as soon as there is an `x`.

    A graph would widen all weights of a model at its start, as they wait for nothing.
    """
    with tf.control_dependencies([x]):
        return dequantized(weight, scale, x.dtype)


def _fastest(x: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return what multiplies with (N, in) on this machine."""
    if linear.has_gpu():
        return by_definition
    if int8_limbs.serves(x):
        return by_limbs
    is_few = x.shape[0] is not None and x.shape[0] < MIN_SLICED_TOKENS
    return by_blocks if is_few or half_precision.is_in_compiled_loop() else by_slices
