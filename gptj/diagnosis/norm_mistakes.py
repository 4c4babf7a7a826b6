"""Known mistakes with layer norms."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gptj.diagnosis.computation import Computation
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.spec.reference import ops
from gptj.spec.reference.ops import Array

Norm = Callable[[Array, Array, Array, float], Array]


def normed_by(norm: Norm) -> Any:
    """Return the mistake of another formula in every layer norm."""

    def change(right: Computation) -> Computation:
        return right.with_maths(layer_norm=norm, final_norm=norm)

    return change


def epsilon(right: Computation, value: float) -> Computation:
    return right.with_config(layer_norm_epsilon=value)


def _epsilon_outside(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    return centred / (deviation + epsilon) * weight + bias


def _unbiased(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)
    return centred / np.sqrt(variance + epsilon) * weight + bias


def _root_mean_square(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * weight + bias


def _not_scaled(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return (x - x.mean(axis=-1, keepdims=True)) * weight + bias


def _weight_plus_one(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return ops.layer_norm(x, weight + 1.0, bias, epsilon)


def _nothing(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    return x


def first_norm_missing(right: Computation) -> Computation:
    return right.with_maths(layer_norm=_nothing)


def final_norm_missing(right: Computation) -> Computation:
    return right.with_maths(final_norm=_nothing)


def final_norm_twice(right: Computation) -> Computation:
    norm = right.maths.final_norm
    return right.with_maths(
        final_norm=lambda x, weight, bias, eps: norm(norm(x, weight, bias, eps), weight, bias, eps)
    )


MISTAKES = (
    Hypothesis(
        "epsilon_wrong",
        "The epsilon of the layer norms is {value}.",
        "Take layer_norm_epsilon from the configuration.",
        epsilon,
        (1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        between=True,
    ),
    Hypothesis(
        "epsilon_outside_root",
        "Layer norms add epsilon to the deviation, not to the variance.",
        "Divide by sqrt(variance + epsilon).",
        normed_by(_epsilon_outside),
    ),
    Hypothesis(
        "variance_unbiased",
        "Layer norms divide the sum of squares by n - 1.",
        "Take the biased variance: divide by n.",
        normed_by(_unbiased),
    ),
    Hypothesis(
        "norm_without_mean",
        "Layer norms do not subtract the mean, as RMSNorm.",
        "Subtract the mean, then divide by the root of the variance.",
        normed_by(_root_mean_square),
    ),
    Hypothesis(
        "norm_without_variance",
        "Layer norms subtract the mean, but do not divide.",
        "Divide by sqrt(variance + epsilon).",
        normed_by(_not_scaled),
    ),
    Hypothesis(
        "norm_weight_plus_one",
        "One is added to the weights of layer norms.",
        "Multiply by the weights as they are.",
        normed_by(_weight_plus_one),
    ),
    Hypothesis(
        "first_norm_missing",
        "The layer norm at the start of each block is left out.",
        "Apply ln_1 before attention and MLP.",
        first_norm_missing,
    ),
    Hypothesis(
        "final_norm_missing",
        "The final layer norm is left out.",
        "Apply ln_f before lm_head.",
        final_norm_missing,
    ),
    Hypothesis(
        "final_norm_twice",
        "The final layer norm is applied twice.",
        "Apply ln_f once: the last of transformers' hidden_states has it already.",
        final_norm_twice,
    ),
)
