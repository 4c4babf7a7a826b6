"""The ONNX Runtime backend: the contract of ``gptj.backends.base`` around converted models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime

from gptj.backends.onnxruntime.models import (
    OnnxGPTJForCausalLM,
    OnnxGPTJForQuestionAnswering,
    OnnxGPTJForSequenceClassification,
    OnnxGPTJModel,
)
from gptj.contract.backend import Capabilities
from gptj.model.array_backend import ArrayBackend
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors
from gptj.spec.types import Device


class OnnxBackend(ArrayBackend):
    """GPT-J in ONNX Runtime, on the CPU: all heads and every mode of generation, no training."""

    name = "onnxruntime"
    models: ClassVar[Mapping[str, type[OnnxGPTJModel]]] = {
        model.head: model
        for model in (
            OnnxGPTJModel,
            OnnxGPTJForCausalLM,
            OnnxGPTJForSequenceClassification,
            OnnxGPTJForQuestionAnswering,
        )
    }
    capabilities = Capabilities(heads=tuple(models), capture=True)
    build_options = ("seed", "engine_cache")

    def make(
        self,
        config: GPTJConfig,
        head: str,
        params: Tensors,
        dtype: str,
        device: Device,
        engine_cache: str | Path | None = None,
        **options: Any,
    ) -> OnnxGPTJModel:
        """Return a model, converted in `engine_cache`; see ``gptj.model.engine_cache``."""
        return self.models[head](config, params, engine_cache)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {
            "onnxruntime": onnxruntime.__version__,
            "onnx": onnx.__version__,
            "numpy": np.__version__,
        }

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return {"float32": "ONNX Runtime's own (MLAS)"}


BACKEND = OnnxBackend()
"""What the registry finds."""

OnnxGPTJModel.backend = BACKEND
