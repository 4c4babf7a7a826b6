"""Known mistakes with weights in eight bits."""

from typing import Final

import numpy as np

from gptj.diagnosis.computation import TABLE, Computation, Weights
from gptj.diagnosis.hypothesis import Hypothesis
from gptj.diagnosis.rounding import codes_of, computed_in, weights_in
from gptj.spec.reference.ops import Array

OFFSET: Final = 128
"""What makes a signed byte an unsigned one."""

LOWEST, HIGHEST = -(2**15), 2**15 - 1
ROWS_AT_A_TIME: Final = 64


def saturated(x: Array, weight: Array, bias: Array | None) -> Array:
    """Multiply unsigned by signed bytes, in pairs whose sum is cut to sixteen bits."""
    rows, scale = codes_of(x.reshape(-1, x.shape[-1]))  # (N, in), (N, 1)
    columns, scales = codes_of(weight)  # (out, in), (out, 1)
    if columns.shape[1] % 2:
        rows, columns = (np.pad(a, ((0, 0), (0, 1))) for a in (rows, columns))
    shifted = (rows + OFFSET).astype(np.float32).reshape(len(rows), -1, 2)
    pairs = columns.astype(np.float32).reshape(len(columns), -1, 2)
    product = np.empty((len(rows), len(columns)), x.dtype)
    for start in range(0, len(columns), ROWS_AT_A_TIME):
        part = pairs[start : start + ROWS_AT_A_TIME]
        first = shifted[:, None, :, 0] * part[None, :, :, 0]
        sums = np.clip(first + shifted[:, None, :, 1] * part[None, :, :, 1], LOWEST, HIGHEST)
        product[:, start : start + ROWS_AT_A_TIME] = sums.sum(axis=-1, dtype=np.float64)
    product -= OFFSET * columns.sum(axis=-1)
    product = (product * scale * scales.T).reshape(*x.shape[:-1], -1)
    return product if bias is None else product + bias


def saturating(right: Computation) -> Computation:
    return right.with_maths(linear=saturated)


def scales_ignored(right: Computation) -> Computation:
    """Read the whole numbers of int8 as the weights."""

    def edit(name: str, weights: Weights) -> Array:
        array = np.asarray(weights[name], right.dtype)
        return array if array.ndim < 2 or name == TABLE else codes_of(array)[0]

    return right.with_params(edit)


def read_as_unsigned(right: Computation) -> Computation:
    """Read negative bytes as positive ones, 256 more."""

    def edit(name: str, weights: Weights) -> Array:
        array = np.asarray(weights[name], right.dtype)
        if array.ndim < 2 or name == TABLE:
            return array
        codes, scale = codes_of(array)
        return np.where(codes < 0, codes + 2 * OFFSET, codes) * scale

    return right.with_params(edit)


MISTAKES = (
    Hypothesis(
        "int8_saturates",
        "Products of int8 are added in pairs in sixteen bits, and saturate.",
        "Use instructions that add in 32 bits (VNNI, or another library), or 7 bits of the input.",
        saturating,
    ),
    Hypothesis(
        "int8_scales_ignored",
        "The scales of int8 weights are ignored: the whole numbers are taken for the weights.",
        "Multiply each row by its scale.",
        scales_ignored,
    ),
    Hypothesis(
        "int8_unsigned",
        "The bytes of int8 weights are read as unsigned.",
        "Read them as signed.",
        read_as_unsigned,
    ),
    Hypothesis(
        "weights_rounded",
        "The weights are rounded to {value}.",
        "Keep the weights in their dtype, or say --dtype {value}.",
        weights_in,
        ("bfloat16", "float16", "int8"),
        rounds=True,
    ),
    Hypothesis(
        "computed_in",
        "All of it is computed in {value}.",
        "Compute in float32, or say --dtype {value}.",
        computed_in,
        ("bfloat16", "float16", "int8"),
        rounds=True,
    ),
)
