"""Quantized weights: the ways to quantize, the weights concerned, and their names on disk.

The weights of all blocks are quantized, and those of a language-model head that is not tied;
embeddings, norms, biases and smaller heads keep their dtype. What the numbers mean:
``gptj.spec.quantizers``.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.spec.quantizers import (
    GROUP,
    Quantizer,
    pack_bytes,
    pack_nibbles,
    unpack_bytes,
    unpack_nibbles,
)

if TYPE_CHECKING:
    from gptj.spec.config import GPTJConfig
    from gptj.spec.params import Parameter

INT8: Final = "int8"
INT4: Final = "int4"
NONE: Final = "none"

QUANTIZERS: Final = {
    INT8: Quantizer(
        INT8,
        bits=8,
        group=None,
        dtype="int8",
        description={
            "quant_method": "gptj_int8",
            "bits": 8,
            "symmetric": True,
            "granularity": "row",
        },
        pack=pack_bytes,
        unpack=unpack_bytes,
    ),
    INT4: Quantizer(
        INT4,
        bits=4,
        group=GROUP,
        dtype="uint8",
        description={
            "quant_method": "gptj_int4",
            "bits": 4,
            "symmetric": True,
            "granularity": "group",
            "group_size": GROUP,
        },
        pack=pack_nibbles,
        unpack=unpack_nibbles,
    ),
}
"""The ways to quantize, by the name that callers ask for."""

ACCEPTED: Final = (*QUANTIZERS, NONE)
"""The accepted choices; None leaves a checkpoint as it is."""

METHODS: Final = {found.description["quant_method"]: found for found in QUANTIZERS.values()}
"""The same ways by the ``quant_method`` of a configuration."""

SCALE: Final = "_scale"
"""Suffix of a weight's name in the name of its scales."""


def check_choice(quantize: object) -> None:
    """Refuse an unknown way to quantize.

    Raises:
        ArgumentError: with those accepted.
    """
    if quantize is not None and quantize not in ACCEPTED:
        raise ArgumentError(
            f"quantize {quantize!r} is not known; accepted are {choices(ACCEPTED)}, and None to "
            "leave the weights as they are."
        )


def description_of(quantize: str) -> dict[str, Any] | None:
    """Return the ``quantization_config`` of a choice, None for ``"none"``."""
    return None if quantize == NONE else dict(QUANTIZERS[quantize].description)


def check_trainable(config: "GPTJConfig", what: str) -> None:
    """Refuse the operation `what` to a model whose weights are quantized.

    Raises:
        UnsupportedFeature: with the alternatives.
    """
    if config.is_quantized:
        raise UnsupportedFeature(
            f"{what} needs weights that can change, and these are {config.quantization}. Train an "
            "adapter with add_lora(), or load the model with quantize='none'."
        )


def check_quantization(config: "GPTJConfig", name: str, accepted: tuple[str, ...]) -> None:
    """Refuse quantized weights to the backend `name` if it does not support them.

    Raises:
        UnsupportedFeature: with those accepted, and the alternatives.
    """
    if config.is_quantized and config.quantization not in accepted:
        raise UnsupportedFeature(
            f"The backend {name!r} does not have the quantization {config.quantization!r}. It has "
            f"{choices(accepted) or 'none'}. Load the model with quantize='none' to dequantize "
            "its weights, or write a copy with `gptj convert MODEL FOLDER --quantize none`."
        )


def is_quantized_module(name: str) -> bool:
    """Return whether the weight of a linear layer of this canonical name may be quantized."""
    return name.startswith(("transformer.", "h.", "lm_head"))


def as_stored(weight: "Parameter", quantizer: Quantizer) -> tuple["Parameter", "Parameter"]:
    """Return the parameters that stand for a weight: the stored weight and its scales."""
    shape = quantizer.scale_shape(weight.shape)
    stored = replace(
        weight,
        shape=quantizer.stored_shape(weight.shape),
        dtype=quantizer.dtype,
        scaled=weight,
        quantizer=quantizer,
    )
    scale = replace(
        stored,
        name=weight.name + SCALE,
        shape=shape,
        kind="linear_scale",
        axes=weight.axes[: len(shape)],
        dtype="float32",
    )
    return stored, scale


def stored_value(parameter: "Parameter", weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the stored weight, or its scales, whichever the parameter is.

    Raises:
        CheckpointError: for numbers that are not finite.
    """
    if parameter.quantizer is None:
        return weight
    scale = parameter.quantizer.scales(weight)
    is_scale = parameter.kind == "linear_scale"
    return scale if is_scale else parameter.quantizer.quantize(weight, scale)
