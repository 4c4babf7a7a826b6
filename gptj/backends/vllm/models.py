"""The model: an engine of vLLM, which runs whole texts and has a decode loop."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from gptj.backends.vllm.engine import Engine, cache_bytes, check_width
from gptj.backends.vllm.files import FORM, write_model
from gptj.model.array_cache import Array
from gptj.model.engine_cache import converted
from gptj.model.engine_limits import compiled_facts
from gptj.model.text_cache import TextCache
from gptj.model.text_models import TextForCausalLM
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors


class VLLMGPTJForCausalLM(TextForCausalLM):
    """GPT-J with a language-model head: token ids to next-token logits."""

    backend_name = "vllm"
    engine_parts: ClassVar[tuple[str, ...]] = ("engine",)
    engine: Engine

    def __init__(
        self, config: GPTJConfig, params: Tensors, engine_cache: str | Path | None = None
    ) -> None:
        """Write the parameters for vLLM, or find them written in a folder, and load them.

        Raises:
            UnsupportedFeature: for heads of a width that vLLM does not have here.
        """
        check_width(config)
        super().__init__(config, params)
        self.engine_cache = engine_cache
        self.open_engine()

    def replace(self, params: Tensors) -> None:
        """Take other parameters, and load them anew."""
        super().replace(params)
        self.open_engine()

    def open_engine(self) -> None:
        """Load the model as it is for the engine, and convert it where it is not."""
        config = self.config
        self.facts = compiled_facts(config)

        def write(folder: Path, params: Tensors) -> None:
            write_model(folder, config, params)

        folder = converted("vllm", config, self.head, self.params, write, FORM, self.engine_cache)
        self.engine = Engine(folder, config.n_positions + 1, cache_bytes(config))

    def logits_at(self, texts: TextCache, kept: Array) -> Array:
        """Return the logits at some places (K,) of texts, (B, K, V), and 0 at padding."""
        attended = texts.attended[:, kept] != 0
        places = np.maximum(np.cumsum(texts.attended, axis=1)[:, kept] - 1, 0)  # (B, K)
        rows = [row[mask != 0] for row, mask in zip(texts.ids, texts.attended, strict=True)]
        given = [row if len(row) else np.zeros(1, np.int64) for row in rows]
        are_last = all((own == len(row) - 1).all() for own, row in zip(places, given, strict=True))
        if are_last:
            found = [logits[None] for logits in self.engine.last_logits(given)]
            places = np.zeros_like(places)
        else:
            found = self.engine.all_logits(given)
        logits = np.stack([row[own] for row, own in zip(found, places, strict=True)])
        return np.where(attended[:, :, None], logits, np.float32(0))
