"""The adapter: MLX as one of gptj's backends. Contract: ``gptj.backends.base``."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn
from mlx.utils import tree_flatten

from gptj.backends.base import Capabilities
from gptj.contract.decoding import DecodePlan
from gptj.generation.prompts import Ids
from gptj.model.array_backend import ArrayBackend
from gptj.model.array_models import ArrayModel
from gptj.spec.config import DTYPES, GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import parameter_table
from gptj.spec.tensors import Tensors
from gptj.spec.types import Device
from gptj_mlx import decode, tensors
from gptj_mlx.cache import KVCache, init_cache
from gptj_mlx.heads import MODELS, MLXGPTJForCausalLM
from gptj_mlx.model import MLXGPTJModel


class MLXBackend(ArrayBackend):
    """GPT-J in MLX."""

    name = "mlx"
    capabilities = Capabilities(
        heads=tuple(MODELS),
        dtypes=DTYPES,
        gradients=True,
        in_graph_decode=True,
        capture=True,
    )

    def make(
        self,
        config: GPTJConfig,
        head: str,
        params: Tensors,
        dtype: str,
        device: Device,
        **options: Any,
    ) -> MLXGPTJModel:
        """Return a model with these parameters."""
        return MODELS[head](config, params, dtype, device)

    def init_cache(self, model: MLXGPTJModel, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that later calls write into."""
        return init_cache(model.config, batch, max_length, model.dtype)

    def resize(self, model: ArrayModel, vocab_size: int, params: Tensors) -> None:
        """Change the size of a model's vocabulary; `params` have a row per token."""
        model.config.vocab_size = vocab_size
        model.replace(params)

    def to_numpy(self, tensor: Any) -> npt.NDArray[Any]:
        """Return a tensor's values on the host."""
        return tensors.to_numpy(tensor)

    def from_numpy(self, array: Any, model: MLXGPTJModel | None = None) -> mx.array:
        """Return an array, a list or a tensor as a tensor; with a model, as an input of it."""
        return tensors.from_numpy(array) if model is None else tensors.as_input(array)

    def concrete(self, tensor: mx.array) -> npt.NDArray[Any] | None:
        """Return a tensor's values for a check, or None while tracing."""
        return tensors.concrete(tensor)

    def decode(
        self, model: MLXGPTJForCausalLM, ids: mx.array, mask: mx.array | None, plan: DecodePlan
    ) -> mx.array:
        """Continue (B, T) prompts in the compiled loop; return them with the new tokens."""
        new = [*decode.run(model, ids, mask, plan)]
        return mx.concatenate((ids, mx.array(np.hstack(new)).astype(ids.dtype)), axis=1)

    def stream(
        self, model: MLXGPTJForCausalLM, ids: mx.array, mask: mx.array | None, plan: DecodePlan
    ) -> Iterator[Ids]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed."""
        return decode.run(model, ids, mask, plan, stride=1)

    def capture(
        self, model: MLXGPTJModel, names: Sequence[str], **inputs: Any
    ) -> tuple[ModelOutput, dict[str, Any]]:
        """Run `forward` and return the outputs of named modules too."""
        seen: dict[str, mx.array] = {}
        spies = [Spy(model.module, name, seen) for name in names]
        try:
            return self.forward(model, **inputs, output_attentions=True), seen
        finally:
            for spy in reversed(spies):
                spy.leave()

    def gradients(self, model: MLXGPTJModel, **inputs: Any) -> tuple[float, dict[str, Any]]:
        """Return a loss and its gradient for every parameter."""
        loss = nn.value_and_grad(model.module, lambda: self.forward(model, **inputs).loss)
        value, found = loss()
        named = {name: g.astype(mx.float32) for name, g in tree_flatten(found)}
        table = parameter_table(model.config, model.head)
        return float(value), {name: tensors.to_numpy(named[name]) for name in table}

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"mlx": version("mlx")}

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""
        return [name for name in ("gpu", "cpu") if mx.is_available(getattr(mx, name))]

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return dict.fromkeys(DTYPES, "MLX's own matmul")


class Spy:
    """Stands in a module's place, and keeps what it returns first."""

    def __init__(self, root: nn.Module, name: str, seen: dict[str, mx.array]) -> None:
        """Take the place of the module that a canonical name means."""
        *path, self.key = name.split(".")
        self.name, self.seen, self.owner = name, seen, root
        for part in path:
            self.owner = self.owner[int(part)] if part.isdigit() else getattr(self.owner, part)
        is_index = isinstance(self.owner, list)
        self.module = self.owner[int(self.key)] if is_index else getattr(self.owner, self.key)
        self.put(self)

    def put(self, module: Any) -> None:
        """Set what stands in the place."""
        if isinstance(self.owner, list):
            self.owner[int(self.key)] = module
        else:
            setattr(self.owner, self.key, module)

    def leave(self) -> None:
        """Give the module its place back."""
        self.put(self.module)

    def __call__(self, *inputs: Any) -> Any:
        """Run the module."""
        output = self.module(*inputs)
        self.seen.setdefault(self.name, output[0] if isinstance(output, tuple) else output)
        return output

    def __getattr__(self, name: str) -> Any:
        """Return what the module has."""
        return getattr(self.module, name)


BACKEND = MLXBackend()
"""What the entry point names."""

MLXGPTJModel.backend = BACKEND
