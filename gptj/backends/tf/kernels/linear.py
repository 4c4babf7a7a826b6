"""Matmuls with the weights of linear layers that lie (out, in), in half precision.

A CPU that multiplies in their dtype, or a GPU, takes TensorFlow's own matmul; elsewhere the weight
is upcast by blocks. Weights in float32 are Keras's (in, out), which TensorFlow multiplies fast.
"""

from typing import Final

import tensorflow as tf

from gptj.backends.tf.kernels import half_precision

MAX_XLA_WEIGHTS: Final = 2**24
"""Numbers of a weight above which TensorFlow's own matmul reads bfloat16 faster for a row, too."""


def matmul(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Return (N, in) x (out, in) in half precision, (N, out), in the dtype of `x`.

    A weight given as bits, as in a compiled loop, is multiplied by blocks.
    """
    weight = tf.convert_to_tensor(weight)
    if half_precision.is_native(weight.dtype):
        return tf.matmul(x, weight, transpose_b=True)
    return half_precision.matmul(x, weight)


def describe(dtype: str) -> str:
    """Describe what multiplies in a dtype; single rows are those of a decode loop."""
    if dtype == "float32":
        return "TensorFlow"
    if not half_precision.is_native(tf.as_dtype(dtype)):
        return half_precision.describe_blocks()
    smaller = f", with kernels of up to {MAX_XLA_WEIGHTS} numbers," if dtype == "bfloat16" else ""
    return f"TensorFlow; for one token{smaller} {half_precision.describe_blocks()}"


def add(y: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Return the sum of a matmul and another tensor; no compiler fuses it into the matmul.

    XLA would then compute a single row on one thread; a subtraction it leaves alone. A graph of
    TensorFlow's would take thirty times as long in float16; between two casts it leaves all alone.
    """
    if y.dtype == tf.float16:
        return tf.cast(tf.cast(y, tf.float32) + tf.cast(other, tf.float32), y.dtype)
    return y - (-other)
