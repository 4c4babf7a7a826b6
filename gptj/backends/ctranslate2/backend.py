"""The CTranslate2 backend: the causal language model in another form, which its engine runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ctranslate2

from gptj.backends.ctranslate2.decode import decode, stream
from gptj.backends.ctranslate2.models import CTranslate2GPTJForCausalLM
from gptj.contract.backend import Capabilities
from gptj.contract.decoding import DecodePlan
from gptj.generation.prompts import Ids, Mask
from gptj.model.array_backend import ArrayBackend
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors
from gptj.spec.types import Device


class CTranslate2Backend(ArrayBackend):
    """GPT-J in CTranslate2: the causal language model, on a CPU."""

    name = "ctranslate2"
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
    ) -> CTranslate2GPTJForCausalLM:
        """Return a model; `engine_cache` is where converted models are kept."""
        return CTranslate2GPTJForCausalLM(config, params, engine_cache)

    def decode(
        self,
        model: CTranslate2GPTJForCausalLM,
        input_ids: Ids,
        attention_mask: Mask | None,
        plan: DecodePlan,
    ) -> Ids:
        """Continue (B, T) prompts in CTranslate2's loop; return them with the new tokens."""
        return decode(model, input_ids, attention_mask, plan)

    def stream(
        self,
        model: CTranslate2GPTJForCausalLM,
        input_ids: Ids,
        attention_mask: Mask | None,
        plan: DecodePlan,
    ) -> Iterator[Ids]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed."""
        return stream(model, input_ids, attention_mask, plan)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"ctranslate2": ctranslate2.__version__}

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return {"float32": "CTranslate2"}


BACKEND = CTranslate2Backend()
"""What the registry finds."""

CTranslate2GPTJForCausalLM.backend = BACKEND
