"""The OpenVINO backend: a graph made from the specification, run by its CPU plugin."""

from collections.abc import Mapping
from typing import Any, ClassVar

import openvino as ov

from gptj.backends.openvino.models import (
    OpenVINOGPTJForCausalLM,
    OpenVINOGPTJForQuestionAnswering,
    OpenVINOGPTJForSequenceClassification,
    OpenVINOGPTJModel,
)
from gptj.contract.backend import Capabilities
from gptj.model.array_backend import ArrayBackend
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors
from gptj.spec.types import Device


class OpenVINOBackend(ArrayBackend):
    """GPT-J in OpenVINO: all heads and most modes of generation, no training."""

    name = "openvino"
    models: ClassVar[Mapping[str, type[OpenVINOGPTJModel]]] = {
        model.head: model
        for model in (
            OpenVINOGPTJModel,
            OpenVINOGPTJForCausalLM,
            OpenVINOGPTJForSequenceClassification,
            OpenVINOGPTJForQuestionAnswering,
        )
    }
    capabilities = Capabilities(heads=tuple(models), inner_outputs=False)

    def make(
        self,
        config: GPTJConfig,
        head: str,
        params: Tensors,
        dtype: str,
        device: Device,
        **options: Any,
    ) -> OpenVINOGPTJModel:
        """Return a model, compiled for the processor."""
        return self.models[head](config, params)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"openvino": str(ov.__version__)}

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return {"float32": "OpenVINO's CPU plugin"}


BACKEND = OpenVINOBackend()
"""What the registry finds."""

OpenVINOGPTJModel.backend = BACKEND
