"""Tensors of a quantized model from those of an ordinary one, and back, computed when read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.errors import CheckpointError
from gptj.spec.config import GPTJConfig
from gptj.spec.params import Parameter, parameter_table
from gptj.spec.quantization import DESCRIPTION, INT8, SCALE, check_choice, dequantize, stored_value
from gptj.spec.tensors import LazyTensor, Tensors


def requantized(
    config: GPTJConfig, head: str, tensors: Tensors, quantize: str | None, dtype: np.dtype[Any]
) -> tuple[GPTJConfig, Tensors]:
    """Return a configuration and its tensors with the weights that `quantize` asks for.

    Args:
        config: what the tensors are; it stays as it is.
        quantize: one of ``gptj.spec.quantization.ACCEPTED``, or None to change nothing.
        dtype: of weights that are int8 and are to be widened.

    Raises:
        ArgumentError: for anything else.
    """
    check_choice(quantize)
    if quantize is None or (quantize == INT8) == config.is_quantized:
        return config, tensors
    description = dict(DESCRIPTION) if quantize == INT8 else None
    changed = GPTJConfig.from_dict(config.to_dict(), quantization_config=description)
    if changed.is_quantized:
        return changed, quantized_tensors(tensors, parameter_table(changed, head))
    return changed, dequantized_tensors(tensors, dtype)


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


def dequantized_tensors(tensors: Mapping[str, Any], dtype: Any = np.float32) -> dict[str, Any]:
    """Return the tensors of an ordinary model from those of a quantized one.

    Arrays and handles of weights that are not quantized stay as they are.
    """
    return {
        name: _meant(tensor, tensors[name + SCALE], dtype) if name + SCALE in tensors else tensor
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def _stored(weight: LazyTensor, parameter: Parameter) -> LazyTensor:
    """Return a handle on the int8 numbers, or the scales, of a weight."""

    def load() -> npt.NDArray[Any]:
        try:
            return stored_value(parameter, weight.read())
        except CheckpointError as error:
            raise CheckpointError(f"{parameter.name} cannot be computed. {error}") from error

    return LazyTensor(parameter.shape, np.dtype(parameter.dtype), load)


def _meant(weight: Any, scale: Any, dtype: Any) -> LazyTensor:
    """Return a handle on what int8 numbers and their scales mean."""

    def load() -> npt.NDArray[Any]:
        return dequantize(np.asarray(weight), np.asarray(scale), dtype)

    return LazyTensor(tuple(weight.shape), np.dtype(dtype), load)
