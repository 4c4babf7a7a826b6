"""Matmuls with a gradient that TensorFlow does not derive, in a graph that holds no weight.

TensorFlow keeps every graph in which a custom gradient is made until the process ends, with all
that it holds. Made in a model's own graph, it would keep the model. Here it has a graph to itself,
one for all models, which is given the weights.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import tensorflow as tf

from gptj.backends.tf.kernels.platforms import in_room

Compute: TypeAlias = Callable[..., tf.Tensor]
"""A matmul of rows (N, in) and other tensors."""

Gradient: TypeAlias = Callable[..., tuple[tf.Tensor | None, ...]]
"""The gradients of all inputs of a matmul, by that of its output and by its inputs."""


def with_gradient(
    compute: Compute, gradient: Gradient, room: int | None, x: tf.Tensor, *others: tf.Tensor
) -> tf.Tensor:
    """Return ``compute(x, *others)``, whose gradient is ``gradient(dy, x, *others)``.

    In a graph it is made for `room` rows, of which `x` (N, in) may have fewer; None takes any
    number. Both functions must be those of a module.
    """
    if tf.executing_eagerly():
        return _differentiable(compute, gradient)(x, *others)
    specs = tuple((tuple(tensor.shape), tensor.dtype) for tensor in others)
    graph = _graph(compute, gradient, (room, x.shape[1]), x.dtype, specs)
    return in_room(graph, room, x, *others)


def _differentiable(compute: Compute, gradient: Gradient) -> Compute:
    """Return a matmul with a gradient."""

    @tf.custom_gradient
    def multiply(*inputs: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return compute(*inputs), lambda dy: gradient(dy, *inputs)

    return multiply


@cache
def _graph(
    compute: Compute,
    gradient: Gradient,
    shape: tuple[int | None, int],
    dtype: tf.DType,
    others: tuple[tuple[tuple[int, ...], tf.DType], ...],
) -> Compute:
    """Return a matmul with a gradient as a graph, for rows and others of these shapes."""
    inputs = [tf.TensorSpec(*spec) for spec in ((shape, dtype), *others)]
    with tf.init_scope():  # the first caller is tracing another graph
        function = tf.function(_differentiable(compute, gradient), autograph=False)
        return function.get_concrete_function(*inputs)
