"""The vLLM backend: the causal language model in the engine of a server, within this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vllm

from gptj.backends.vllm.decode import decode, stream
from gptj.backends.vllm.models import VLLMGPTJForCausalLM
from gptj.contract.backend import Capabilities
from gptj.contract.decoding import DecodePlan
from gptj.generation.prompts import Ids, Mask
from gptj.model.array_backend import ArrayBackend
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors
from gptj.spec.types import Device


class VLLMBackend(ArrayBackend):
    """GPT-J in vLLM: the causal language model, where vLLM itself finds it fit."""

    name = "vllm"
    capabilities = Capabilities(
        heads=("causal_lm",), in_graph_decode=True, in_graph_sampling=False, inner_outputs=False
    )
    build_options = ("seed", "engine_cache")

    def make(
        self,
        config: GPTJConfig,
        head: str,
        params: Tensors,
        dtype: str,
        device: Device,
        *,
        engine_cache: str | Path | None = None,
        **options: Any,
    ) -> VLLMGPTJForCausalLM:
        """Return a model; `engine_cache` is where written models are kept."""
        return VLLMGPTJForCausalLM(config, params, engine_cache)

    def decode(
        self,
        model: VLLMGPTJForCausalLM,
        input_ids: Ids,
        attention_mask: Mask | None,
        plan: DecodePlan,
    ) -> Ids:
        """Continue (B, T) prompts in vLLM's loop; return them with the new tokens."""
        return decode(model, input_ids, attention_mask, plan)

    def stream(
        self,
        model: VLLMGPTJForCausalLM,
        input_ids: Ids,
        attention_mask: Mask | None,
        plan: DecodePlan,
    ) -> Iterator[Ids]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed."""
        return stream(model, input_ids, attention_mask, plan)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"vllm": vllm.__version__}

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return {"float32": "vLLM"}


BACKEND = VLLMBackend()
"""What the registry finds."""

VLLMGPTJForCausalLM.backend = BACKEND
