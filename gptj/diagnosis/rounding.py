"""Rounding to few bits: what a correct engine does in a dtype that is narrower than float32."""

from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from gptj.diagnosis.computation import Computation, Weights
from gptj.spec.config import GPTJConfig
from gptj.spec.reference.maths import Pair
from gptj.spec.reference.ops import Array

NARROW: Final[dict[str, npt.DTypeLike]] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}

CODES: Final = 127.0
"""The largest whole number of a symmetric int8."""


def rounded_to(x: Array, dtype: str) -> Array:
    """Return numbers as a dtype has them, in their own dtype."""
    if dtype == "int8":
        return by_rows(x)
    with np.errstate(over="ignore"):
        return x.astype(NARROW[dtype]).astype(x.dtype)


def by_rows(x: Array) -> Array:
    """Return numbers as int8 has them, with a scale for each row of the last axis."""
    codes, scale = codes_of(x)
    return codes * scale


def codes_of(x: Array) -> Pair:
    """Return whole numbers (..., n) up to 127 and the scale of each row, (..., 1)."""
    largest = np.abs(x).max(axis=-1, keepdims=True)
    scale = np.where(largest == 0, 1.0, largest / CODES).astype(x.dtype)
    return np.rint(x / scale), scale


def weights_in(right: Computation, value: str) -> Computation:
    """Round every matrix, and in a float dtype every vector, to a dtype."""

    def edit(name: str, weights: Weights) -> Array:
        array = np.asarray(weights[name])
        if value == "int8" and array.ndim < 2:
            return array
        return rounded_to(array.astype(right.dtype, copy=False), value)

    return right.with_params(edit)


def computed_in(right: Computation, value: str) -> Computation:
    """Round the weights and every result to a dtype; in int8 the two sides of each product."""
    changed = weights_in(right, value)
    maths = changed.maths
    if value == "int8":
        return changed.with_maths(
            linear=lambda x, weight, bias: maths.linear(by_rows(x), weight, bias)
        )

    def rounded(function: Any) -> Any:
        return lambda *given: rounded_to(function(*given), value)

    def pair(function: Any) -> Any:
        return lambda *given: tuple(rounded_to(x, value) for x in function(*given))

    return changed.with_maths(
        layer_norm=rounded(maths.layer_norm),
        final_norm=rounded(maths.final_norm),
        linear=rounded(maths.linear),
        rotate=pair(maths.rotate),
        probabilities=rounded(maths.probabilities),
        join_heads=rounded(maths.join_heads),
        activate=rounded(maths.activate),
        add=rounded(maths.add),
    )


def cache_in(right: Computation, value: str) -> Computation:
    """Round keys and values to a dtype."""
    keep = right.maths.store
    return right.with_maths(store=lambda *pair: tuple(rounded_to(x, value) for x in keep(*pair)))


def scores_in(right: Computation, value: str) -> Computation:
    """Round scores and probabilities to a dtype."""
    scores, probabilities = right.maths.scores, right.maths.probabilities

    def narrow_scores(query: Array, key: Array, config: GPTJConfig) -> Array:
        return rounded_to(scores(rounded_to(query, value), rounded_to(key, value), config), value)

    def narrow_probabilities(scaled: Array, mask: Array) -> Array:
        return rounded_to(probabilities(scaled, mask), value)

    return right.with_maths(scores=narrow_scores, probabilities=narrow_probabilities)
