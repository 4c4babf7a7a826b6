"""Weights in eight bits: which they are, what the numbers mean, and their names on disk.

A quantized weight (out, in) is int8 and has a scale per output, float32: ``w = q * scale``. The
scale is a 127th of the largest number of the row, so that q is in [-127, 127] and the rounding
error is half a scale at most. The weights of all blocks are quantized, and those of a
language-model head that is not tied; embeddings, norms, biases and smaller heads keep their dtype.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature, choices

if TYPE_CHECKING:
    from gptj.spec.config import GPTJConfig
    from gptj.spec.params import Parameter

INT8: Final = "int8"
NONE: Final = "none"

ACCEPTED: Final = (INT8, NONE)
"""What callers may ask for; None leaves a checkpoint as it is."""

METHOD: Final = "gptj_int8"
"""The ``quant_method`` of a configuration with int8 weights."""

DESCRIPTION: Final = {"quant_method": METHOD, "bits": 8, "symmetric": True, "granularity": "row"}
"""What a configuration says of int8 weights."""

LARGEST: Final = 127

SCALE: Final = "_scale"
"""What follows the name of a weight in the name of its scales."""

ROWS: Final = 256
"""Rows that are computed at once, so that only the result is as large as the weight."""


def check_choice(quantize: Any) -> None:
    """Refuse what is no way to quantize.

    Raises:
        ArgumentError: with those accepted.
    """
    if quantize is not None and quantize not in ACCEPTED:
        raise ArgumentError(
            f"quantize {quantize!r} is not known; accepted are {choices(ACCEPTED)}, and None to "
            "leave the weights as they are."
        )


def check_trainable(config: "GPTJConfig", what: str) -> None:
    """Refuse `what` to a model whose weights are int8.

    Raises:
        UnsupportedFeature: with what can be done instead.
    """
    if config.is_quantized:
        raise UnsupportedFeature(
            f"{what} needs weights that can change, and these are int8. Train an adapter with "
            "add_lora(), or load the model with quantize='none'."
        )


def row_scales(weight: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the scale of every row of (out, in), (out,); 1 for a row that is all zero.

    Raises:
        CheckpointError: for numbers that are not finite.
    """
    blocks = (weight[start : start + ROWS] for start in range(0, len(weight), ROWS))
    largest = [np.abs(block.astype(np.float32)).max(axis=1, initial=0.0) for block in blocks]
    scale = np.concatenate(largest).astype(np.float32) / np.float32(LARGEST)
    if not np.isfinite(scale).all():
        raise CheckpointError(
            f"Row {int(np.argmin(np.isfinite(scale)))} holds numbers that are not finite, which "
            "int8 cannot express; `gptj inspect` names the tensors that do."
        )
    scale[scale == 0] = 1.0  # also where a 127th is too small for a float32
    return scale


def quantize(weight: npt.NDArray[Any], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """Return (out, in) as int8 numbers of these scales (out,), rounded half to even."""
    result = np.empty(weight.shape, np.int8)
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        exact = weight[rows].astype(np.float32) / scale[rows, None]
        result[rows] = np.rint(exact).clip(-LARGEST, LARGEST)
    return result


def dequantize(
    weight: npt.NDArray[np.int8], scale: npt.NDArray[np.float32], dtype: Any = np.float32
) -> npt.NDArray[Any]:
    """Return what int8 numbers (out, in) and scales (out,) mean; exact in float64."""
    exact = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    return np.multiply(weight, scale[:, None], dtype=exact).astype(dtype, copy=False)


def is_quantized_module(name: str) -> bool:
    """Return whether the weight of a linear layer of this canonical name may be int8."""
    return name.startswith(("transformer.", "h.", "lm_head"))


def as_stored(weight: "Parameter") -> tuple["Parameter", "Parameter"]:
    """Return the int8 weight and the scales that stand for a parameter."""
    scale = replace(
        weight,
        name=weight.name + SCALE,
        shape=weight.shape[:1],
        kind="linear_scale",
        axes=weight.axes[:1],
        dtype="float32",
        scaled=weight,
    )
    return replace(weight, dtype=INT8, scaled=weight), scale


def stored_value(parameter: "Parameter", weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the int8 numbers or the scales of a weight, whichever the parameter is."""
    scale = row_scales(weight)
    return scale if parameter.kind == "linear_scale" else quantize(weight, scale)
