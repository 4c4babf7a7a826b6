"""The NumPy backend: the contract of ``gptj.backends.base`` for machines without a framework."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gptj.backends.numpy.models import (
    NumpyGPTJForCausalLM,
    NumpyGPTJForQuestionAnswering,
    NumpyGPTJForSequenceClassification,
    NumpyGPTJModel,
)
from gptj.contract.backend import Capabilities
from gptj.model.array_backend import ArrayBackend
from gptj.model.array_cache import Array
from gptj.model.array_models import in_float32
from gptj.spec import reference
from gptj.spec.config import GPTJConfig
from gptj.spec.input_arrays import input_array
from gptj.spec.quantization import QUANTIZERS
from gptj.spec.tensors import Tensors
from gptj.spec.types import Device


class NumpyBackend(ArrayBackend):
    """GPT-J in NumPy: all heads and every mode of generation, no training."""

    name = "numpy"
    models: ClassVar[Mapping[str, type[NumpyGPTJModel]]] = {
        model.head: model
        for model in (
            NumpyGPTJModel,
            NumpyGPTJForCausalLM,
            NumpyGPTJForSequenceClassification,
            NumpyGPTJForQuestionAnswering,
        )
    }
    capabilities = Capabilities(
        heads=tuple(models), gradients=True, capture=True, quantization=tuple(QUANTIZERS)
    )

    def make(
        self,
        config: GPTJConfig,
        head: str,
        params: Tensors,
        dtype: str,
        device: Device,
        **options: Any,
    ) -> NumpyGPTJModel:
        """Return a model with these parameters."""
        return self.models[head](config, params)

    def gradients(self, model: NumpyGPTJModel, **inputs: Any) -> tuple[float, dict[str, Array]]:
        """Return a loss and its gradient for every parameter, both computed in float64."""
        arrays = {name: None if x is None else input_array(x, name) for name, x in inputs.items()}
        output, found = reference.backward(model.config, model.params, head=model.head, **arrays)
        return output.loss, in_float32(found)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"numpy": np.__version__}

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return {"float32": "NumPy's BLAS", **dict.fromkeys(QUANTIZERS, "dequantized, NumPy's BLAS")}


BACKEND = NumpyBackend()
"""What the registry finds."""

NumpyGPTJModel.backend = BACKEND
