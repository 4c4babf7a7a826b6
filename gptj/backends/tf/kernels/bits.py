"""Half-precision matrices as their bits, so that a compiled loop holds no second copy of them.

XLA's CPU kernels compute in float32. Left alone, XLA upcasts all such matrices before a loop, or
copies them. It leaves integers alone, so it is given the bits of the numbers instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import keras
import tensorflow as tf

BITS_OF_DTYPE: Final = {tf.bfloat16: tf.uint16, tf.float16: tf.int16}
"""Dtype -> the integers that its bits are given as, which tell the two apart."""

DTYPE_OF_BITS: Final = {bits: numbers for numbers, bits in BITS_OF_DTYPE.items()}

_given: ContextVar[dict[str, tf.Tensor]] = ContextVar("gptj_tf_bits")


def as_bits(matrix: tf.Tensor) -> tf.Tensor:
    """Return the bits of a matrix in half precision, without a copy, and any other as it is."""
    return (
        tf.bitcast(matrix, BITS_OF_DTYPE[matrix.dtype]) if matrix.dtype in BITS_OF_DTYPE else matrix
    )


def from_bits(rows: tf.Tensor) -> tf.Tensor:
    """Return rows of a matrix as numbers."""
    return tf.bitcast(rows, DTYPE_OF_BITS[rows.dtype]) if rows.dtype in DTYPE_OF_BITS else rows


def upcast(rows: tf.Tensor) -> tf.Tensor:
    """Return rows of a matrix, numbers or bits, in float32."""
    if rows.dtype != tf.uint16:
        return tf.cast(from_bits(rows), tf.float32)
    # XLA would make numbers of all bits of bfloat16 first
    return tf.bitcast(tf.bitwise.left_shift(tf.cast(rows, tf.uint32), 16), tf.float32)


def upcast_bits(x: tf.Tensor) -> tf.Tensor:
    """Return bits as numbers in float32, and numbers as they are."""
    return upcast(x) if x.dtype in DTYPE_OF_BITS else x


@contextmanager
def reading(bits: dict[str, tf.Tensor]) -> Iterator[None]:
    """Have the model inside read matrices from these bits, not from its variables."""
    token = _given.set(bits)
    try:
        yield
    finally:
        _given.reset(token)


def is_in_compiled_loop() -> bool:
    """Return whether a compiled loop reads the model, before which XLA would upcast weights."""
    return _given.get(None) is not None


def matrix(variable: keras.Variable) -> tf.Tensor:
    """Return a matrix as it is in its variable, or its bits, where the model is to read those."""
    bits = _given.get({}).get(variable.path)
    return tf.convert_to_tensor(variable.value) if bits is None else bits
