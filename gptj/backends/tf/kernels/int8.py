"""Matmuls with int8 weights. What the numbers mean: ``gptj.spec.quantizers``."""

from collections.abc import Callable
from typing import Final

import tensorflow as tf

from gptj.backends.tf.kernels import half_precision, int8_limbs
from gptj.backends.tf.kernels.bits import is_in_compiled_loop
from gptj.backends.tf.kernels.own_gradient import with_gradient
from gptj.backends.tf.kernels.platforms import has_gpu, room_for

MIN_SLICED_TOKENS: Final = 64
"""Tokens from which TensorFlow's own matmuls with dequantized slices are the fastest."""

SLICE_SIZE: Final = 2**24
"""Numbers in a slice: enough for a matmul to reach its full speed."""


def matmul(x: tf.Tensor, weight: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return (N, in) x (out, in) int8, times a scale per output, (N, out), in the dtype of `x`.

    Gradients reach `x`, for an adapter of an earlier layer.
    """
    weight, scale = tf.convert_to_tensor(weight), tf.convert_to_tensor(scale)
    compute = _fastest(x)
    room = None if compute in TAKE_ANY_NUMBER else room_for(x)
    return with_gradient(compute, _gradient, room, x, weight, scale)


def by_blocks(x: tf.Tensor, weight: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return the matmul with float32 sums; the dequantized weight is never whole."""
    return tf.cast(half_precision.by_blocks(x, weight) * scale, x.dtype)


def by_limbs(x: tf.Tensor, weight: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return the matmul with exact sums, by int8 limbs of `x`."""
    return tf.cast(int8_limbs.matmul(x, weight) * scale, x.dtype)


def by_definition(x: tf.Tensor, weight: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return the matmul by the definition, which costs a GPU nothing."""
    return tf.matmul(x, _dequantized_for(x, weight, scale), transpose_b=True)


def dequantized(weight: tf.Tensor, scale: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return the weight of stored numbers and scales, (out, in)."""
    return tf.cast(tf.cast(weight, tf.float32) * scale[:, None], dtype)


def describe() -> str:
    """Describe the kernels that multiply with int8 weights on this machine's CPU."""
    sliced = f"TensorFlow from {MIN_SLICED_TOKENS} tokens on, {SLICE_SIZE} numbers at a time"
    return "; else ".join(
        filter(None, (int8_limbs.describe(), sliced, half_precision.describe_blocks()))
    )


def by_slices(x: tf.Tensor, weight: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return the matmul by TensorFlow's own, a slice of the outputs at a time, for any shape.

    It is in bfloat16 where `x` is and the processor multiplies in it: its eight bits hold all
    weights exactly. Without the scale float16 could not hold the sums.
    """
    rows = tf.cast(x, half_precision.upcast_dtype(x))
    outputs, inputs = weight.shape
    size = max(1, SLICE_SIZE // inputs)
    blocks, before = [], rows
    for start in range(0, outputs, size):
        with tf.control_dependencies([before]):  # as in `_dequantized_for`
            block = tf.cast(weight[start : start + size], rows.dtype)
        before = tf.matmul(rows, block, transpose_b=True)
        blocks.append(before)
    return tf.cast(tf.cast(tf.concat(blocks, axis=1), tf.float32) * scale, x.dtype)


TAKE_ANY_NUMBER: Final = (by_definition, by_slices)
"""What a graph takes for any number of tokens."""


def _fastest(x: tf.Tensor) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the fastest way to multiply these tokens."""
    if has_gpu():
        return by_definition
    if int8_limbs.serves(x):
        return by_limbs
    is_few = x.shape[0] is not None and x.shape[0] < MIN_SLICED_TOKENS
    return by_blocks if is_few or is_in_compiled_loop() else by_slices


def _gradient(
    dy: tf.Tensor, x: tf.Tensor, weight: tf.Tensor, scale: tf.Tensor
) -> tuple[tf.Tensor, None, None]:
    return tf.matmul(dy, _dequantized_for(dy, weight, scale)), None, None


def _dequantized_for(x: tf.Tensor, weight: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Return the weight in the dtype of `x`, computed no earlier than `x`.

    A graph would dequantize all weights of a model at its start, as they wait for nothing.
    """
    with tf.control_dependencies([x]):
        return dequantized(weight, scale, x.dtype)
