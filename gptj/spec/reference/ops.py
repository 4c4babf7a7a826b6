"""The elementary operations of GPT-J, each in the dtype of its input."""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.spec.tensors import LazyTensor

Array = npt.NDArray[np.floating[Any]]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    """Error function, computed in float64: NumPy has none."""
    return _erf(x).astype(x.dtype)


def gelu(x: Array) -> Array:
    """Gaussian error linear unit with the exact error function (arXiv:1606.08415)."""
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def gelu_new(x: Array) -> Array:
    """The tanh approximation of GELU, which GPT-2 and GPT-J were trained with."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def sigmoid(x: Array) -> Array:
    """Logistic function, without overflow for large negative values."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def quick_gelu(x: Array) -> Array:
    """The sigmoid approximation of GELU."""
    return x * sigmoid(1.702 * x)


def silu(x: Array) -> Array:
    """Sigmoid-weighted linear unit, also called swish."""
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    """Rectified linear unit."""
    return np.maximum(x, 0.0)


ACTIVATION: Final[dict[str, Callable[[Array], Array]]] = {
    "gelu": gelu,
    "gelu_new": gelu_new,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": np.tanh,
}


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Normalise the last axis with its biased variance (arXiv:1607.06450)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * weight + bias


def softmax(scores: Array) -> Array:
    """Softmax over the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def rotate_every_two(x: Array) -> Array:
    """Turn pairs (a, b) of the last axis into (-b, a)."""
    return np.stack((-x[..., 1::2], x[..., 0::2]), axis=-1).reshape(x.shape)


def apply_rotary(x: Array, sin: Array, cos: Array) -> Array:
    """Rotate the first R of the last axis of (B, H, T, D) by the angles of (B, 1, T, R)."""
    width = sin.shape[-1]
    rotated = x[..., :width] * cos + rotate_every_two(x[..., :width]) * sin
    return np.concatenate((rotated, x[..., width:]), axis=-1)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Multiply (..., in) by a weight (out, in), which is read once, and add the bias (out,)."""
    product = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], -1)
    return product if bias is None else product + bias


def read(value: npt.ArrayLike | LazyTensor, dtype: npt.DTypeLike) -> Array:
    """Read an array, or a lazy tensor, in a dtype; one that has it is not copied."""
    return np.asarray(value).astype(dtype, copy=False)
