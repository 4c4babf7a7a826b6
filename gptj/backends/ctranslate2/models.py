"""The model: a generator of CTranslate2, which runs whole texts and has a decode loop."""

from pathlib import Path
from typing import ClassVar

import ctranslate2

from gptj.backends.ctranslate2.conversion import FORM, write_model
from gptj.backends.ctranslate2.forward import logits_at, open_folder
from gptj.model.array_cache import Array
from gptj.model.engine_cache import converted
from gptj.model.engine_limits import compiled_facts
from gptj.model.text_cache import TextCache
from gptj.model.text_models import TextForCausalLM
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors


class CTranslate2GPTJForCausalLM(TextForCausalLM):
    """GPT-J with a language-model head: token ids to next-token logits."""

    backend_name = "ctranslate2"
    engine_parts: ClassVar[tuple[str, ...]] = ("generator",)
    generator: ctranslate2.Generator

    def __init__(
        self, config: GPTJConfig, params: Tensors, engine_cache: str | Path | None = None
    ) -> None:
        """Convert the parameters, or find them converted in a folder, and load them."""
        super().__init__(config, params)
        self.engine_cache = engine_cache
        self.open_engine()

    def replace(self, params: Tensors) -> None:
        """Take other parameters, and convert them."""
        super().replace(params)
        self.open_engine()

    def open_engine(self) -> None:
        """Load the model as it is for the engine, and convert it where it is not."""
        config = self.config
        self.facts = compiled_facts(config)
        names = {n: str(n) for n in range(config.vocab_size)}  # the loop takes strings alone

        def write(folder: Path, params: Tensors) -> None:
            write_model(folder, config, params, names)

        folder = converted(
            "ctranslate2", config, self.head, self.params, write, FORM, self.engine_cache
        )
        self.generator = open_folder(folder, "float32")

    def logits_at(self, texts: TextCache, kept: Array) -> Array:
        """Return the logits at some places (K,) of texts, (B, K, V), and 0 at padding."""
        return logits_at(self.generator, texts.ids, texts.attended, kept)
