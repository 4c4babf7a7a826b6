"""The adapter: MLX as one of gptj's backends. Contract: ``gptj.backends.base``."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from gptj.backends.base import Capabilities
from gptj.model.array_cache import Array
from gptj.model.array_decode import DecodingBackend
from gptj.model.array_inputs import given_arrays
from gptj.model.array_models import ArrayModel
from gptj.spec.config import DTYPES, GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import parameter_table
from gptj.spec.reference.loss_gradients import logits_gradient
from gptj.spec.tensors import Tensors
from gptj.spec.types import Device
from gptj_mlx.arrays import in_float32, to_mlx
from gptj_mlx.models import (
    INPUTS,
    MLXGPTJForCausalLM,
    MLXGPTJForQuestionAnswering,
    MLXGPTJForSequenceClassification,
    MLXGPTJModel,
)


class MLXBackend(DecodingBackend):
    """GPT-J in MLX: all heads and every mode of generation, gradients, no training."""

    name = "mlx"
    models: ClassVar[Mapping[str, type[MLXGPTJModel]]] = {
        model.head: model
        for model in (
            MLXGPTJModel,
            MLXGPTJForCausalLM,
            MLXGPTJForSequenceClassification,
            MLXGPTJForQuestionAnswering,
        )
    }
    capabilities = Capabilities(
        heads=tuple(models), dtypes=DTYPES, gradients=True, in_graph_decode=True, capture=True
    )

    def make(
        self, config: GPTJConfig, head: str, params: Tensors, dtype: str, device: Device, **_: Any
    ) -> MLXGPTJModel:
        """Return a model with these parameters."""
        return self.models[head](config, params, dtype, device)

    def resize(self, model: ArrayModel, vocab_size: int, params: Tensors) -> None:
        """Change the size of a model's vocabulary; the other parameters are not copied."""
        model.config.vocab_size = vocab_size
        model.replace(params)

    def gradients(self, model: MLXGPTJModel, **inputs: Any) -> tuple[float, dict[str, Array]]:
        """Return a loss and its gradient for every parameter.

        The gradient for the logits is computed in float64, as the loss is, and the rest by MLX.
        """
        output, arrays = self.forward(model, **inputs), given_arrays(**inputs)
        wide = {n: x.astype(np.float64) for n, x in output.items() if n.endswith("logits")}
        outer = logits_gradient(model.config, model.head, ModelOutput(wide), arrays)
        weights = to_mlx(outer.astype(np.float32))
        given = {name: array for name, array in arrays.items() if name in INPUTS}
        product = nn.value_and_grad(model.module, lambda: mx.sum(model.forward(**given) * weights))
        found = dict(tree_flatten(product()[1]))
        names = parameter_table(model.config, model.head)
        return float(output.loss), {name: in_float32(found[name]) for name in names}

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"mlx": version("mlx")}

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""
        return [name for name in ("gpu", "cpu") if mx.is_available(getattr(mx, name))]

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return dict.fromkeys(DTYPES, "MLX's own matmul")


BACKEND = MLXBackend()
"""What the entry point names."""

MLXGPTJModel.backend = BACKEND
