"""The derivatives of the elementary operations, in float64.

With y = f(x) and dy the gradient of the loss for y, each function returns the gradient for x.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from gptj.spec.reference import ops
from gptj.spec.reference.ops import Array


def gelu_slope(x: Array) -> Array:
    """P(x) + x p(x), with the normal distribution P and its density p."""
    density = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    return 0.5 * (1.0 + ops.erf(x / math.sqrt(2.0))) + x * density


def gelu_new_slope(x: Array) -> Array:
    """(1 + t) / 2 + x (1 - t^2) u' / 2, with t = tanh(u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    root = math.sqrt(2.0 / math.pi)
    t = np.tanh(root * (x + 0.044715 * x**3))
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t**2) * root * (1.0 + 3 * 0.044715 * x**2)


def quick_gelu_slope(x: Array) -> Array:
    """s + 1.702 x s (1 - s), with s = sigmoid(1.702 x)."""
    s = ops.sigmoid(1.702 * x)
    return s + 1.702 * x * s * (1.0 - s)


def silu_slope(x: Array) -> Array:
    """s + x s (1 - s), with s = sigmoid(x)."""
    s = ops.sigmoid(x)
    return s + x * s * (1.0 - s)


def relu_slope(x: Array) -> Array:
    """1 where x is positive, else 0."""
    return (x > 0).astype(np.float64)


def tanh_slope(x: Array) -> Array:
    """1 - tanh(x)^2."""
    return 1.0 - np.tanh(x) ** 2


SLOPE: Final[dict[str, Callable[[Array], Array]]] = {
    "gelu": gelu_slope,
    "gelu_new": gelu_new_slope,
    "quick_gelu": quick_gelu_slope,
    "relu": relu_slope,
    "silu": silu_slope,
    "swish": silu_slope,
    "tanh": tanh_slope,
}
"""Activation -> its derivative."""


def layer_norm(dy: Array, x: Array, weight: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Return the gradients for x, weight and bias.

    With n = (x - mean) / s and g = dy weight: dx = (g - mean(g) - n mean(g n)) / s.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    normal = centred / scale
    g = dy * weight
    dx = g - g.mean(axis=-1, keepdims=True) - normal * (g * normal).mean(axis=-1, keepdims=True)
    return dx / scale, _over_rows(dy * normal), _over_rows(dy)


def linear(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return the gradients for x, weight (out, in) and bias of y = x W^T + b."""
    rows = dy.reshape(-1, dy.shape[-1])
    return dy @ weight, rows.T @ x.reshape(-1, x.shape[-1]), _over_rows(dy)


def softmax(dy: Array, y: Array) -> Array:
    """y (dy - sum(dy y)), over the last axis."""
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def apply_rotary(dy: Array, sin: Array, cos: Array) -> Array:
    """Rotate by the opposite angle."""
    return ops.apply_rotary(dy, -sin, cos)


def _over_rows(dy: Array) -> Array:
    return dy.reshape(-1, dy.shape[-1]).sum(axis=0)
