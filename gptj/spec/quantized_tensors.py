"""Tensors of a quantized model from those of an ordinary one, and back, computed when read."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gptj.errors import CheckpointError
from gptj.spec.config import GPTJConfig
from gptj.spec.params import Parameter, parameter_table
from gptj.spec.quantization import (
    NONE,
    QUANTIZERS,
    SCALE,
    check_choice,
    description_of,
    stored_value,
)
from gptj.spec.quantizers import Quantizer
from gptj.spec.tensors import LazyTensor, Tensors

Config = TypeVar("Config", bound=GPTJConfig)


def requantized(
    config: Config, head: str, tensors: Tensors, quantize: str | None, dtype: np.dtype[Any]
) -> tuple[Config, Tensors]:
    """Return a configuration and tensors with weights quantized as `quantize` says.

    Weights that are quantized in another way are dequantized to float32 and quantized again.

    Args:
        config: of the tensors; it stays as it is.
        quantize: one of ``gptj.spec.quantization.ACCEPTED``, or None to change nothing.
        dtype: of quantized weights that are to be dequantized.

    Raises:
        ArgumentError: for anything else.
        ConfigError: for a model whose sizes do not fit the groups.
    """
    check_choice(quantize)
    if quantize is None or quantize == (config.quantization or NONE):
        return config, tensors
    content = config.to_dict()
    changed = type(config).from_dict(content, quantization_config=description_of(quantize))
    if not changed.is_quantized:
        return changed, dequantized_tensors(config, tensors, dtype)
    wide = dequantized_tensors(config, tensors)
    return changed, quantized_tensors(wide, parameter_table(changed, head))


def quantized_tensors(tensors: Tensors, table: Mapping[str, Parameter]) -> dict[str, LazyTensor]:
    """Return the tensors of a quantized model from those of an ordinary one.

    Args:
        tensors: of the ordinary model.
        table: the parameters of the quantized one.
    """
    return {
        name: tensors[name] if p.scaled is None else _stored(tensors[p.scaled.name], p)
        for name, p in table.items()
    }


def dequantized_tensors(
    config: GPTJConfig, tensors: Mapping[str, Any], dtype: npt.DTypeLike = np.float32
) -> dict[str, Any]:
    """Return the tensors of an ordinary model from those of a quantized one.

    Arrays and handles of weights that are not quantized stay as they are, and so does a model
    whose configuration is not that of a quantized one.
    """
    if config.quantization is None:
        return dict(tensors)
    quantizer = QUANTIZERS[config.quantization]
    return {
        name: _meant(quantizer, tensor, tensors[name + SCALE], dtype)
        if name + SCALE in tensors
        else tensor
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def _stored(weight: LazyTensor, parameter: Parameter) -> LazyTensor:
    """Return a handle on a stored weight, or on its scales."""

    def load() -> npt.NDArray[Any]:
        try:
            return stored_value(parameter, weight.read())
        except CheckpointError as error:
            raise CheckpointError(f"{parameter.name} cannot be computed. {error}") from error

    return LazyTensor(parameter.shape, np.dtype(parameter.dtype), load)


def _meant(
    quantizer: Quantizer, stored: LazyTensor, scale: LazyTensor, dtype: npt.DTypeLike
) -> LazyTensor:
    """Return a handle on the weight of stored numbers and their scales."""

    def load() -> npt.NDArray[Any]:
        return quantizer.dequantize(np.asarray(stored), np.asarray(scale), dtype)

    outputs, inputs = stored.shape
    return LazyTensor((outputs, inputs * 8 // quantizer.bits), np.dtype(dtype), load)
