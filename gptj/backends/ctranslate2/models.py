"""The model: a generator of CTranslate2, which runs whole texts and has a decode loop."""

from pathlib import Path
from typing import Any, ClassVar

import ctranslate2
import numpy as np

from gptj.backends.ctranslate2.conversion import FORM, write_model
from gptj.backends.ctranslate2.forward import logits_at, open_folder
from gptj.model.array_cache import Array
from gptj.model.array_heads import ArrayForCausalLM
from gptj.model.array_inputs import Flags, Inputs
from gptj.model.engine_cache import converted
from gptj.model.engine_limits import refuse, refuse_extras
from gptj.model.text_cache import TextCache
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.positions import positions_from_mask
from gptj.spec.tensors import Tensors


class CTranslate2GPTJForCausalLM(ArrayForCausalLM):
    """GPT-J with a language-model head: token ids to next-token logits."""

    backend_name = "ctranslate2"
    cache_class: ClassVar[type] = TextCache
    generator: ctranslate2.Generator

    def __init__(
        self, config: GPTJConfig, params: Tensors, engine_cache: str | Path | None = None
    ) -> None:
        """Convert the parameters, or find them converted in a folder, and load them."""
        super().__init__(config, params)
        self.engine_cache = engine_cache
        self._load()

    def replace(self, params: Tensors) -> None:
        """Take other parameters, and convert them."""
        super().replace(params)
        self._load()

    def _load(self) -> None:
        config = self.config
        names = {n: str(n) for n in range(config.vocab_size)}  # the loop takes strings alone

        def write(folder: Path, params: Tensors) -> None:
            write_model(folder, config, params, names)

        folder = converted(
            "ctranslate2", config, self.head, self.params, write, FORM, self.engine_cache
        )
        self.generator = open_folder(folder, "float32")

    def compute(
        self, inputs: Inputs, past: Any, flags: Flags, keep: Array | None = None
    ) -> ModelOutput:
        """Run the whole texts; logits at padding are 0.

        Raises:
            UnsupportedFeature: for inputs and outputs that the engine lacks.
        """
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        refuse_extras(self.backend_name, inputs, flags)
        past = TextCache.empty(len(ids), self.config.n_layer) if past is None else past
        total = past.length + ids.shape[1]
        attended = np.ones((len(ids), total), np.int64) if mask is None else mask != 0
        _check_positions(inputs["position_ids"], attended[:, :total], past.length)
        cache = past.extended(ids, attended.astype(np.int64))
        kept = np.arange(ids.shape[1]) if keep is None else keep
        return ModelOutput(
            logits=logits_at(self.generator, cache.ids, cache.attended, past.length + kept),
            past_key_values=cache,
        )

    def init_cache(self, batch: int, max_length: int) -> TextCache:
        """Return an empty cache of `max_length` tokens at most."""
        return TextCache.empty(batch, self.config.n_layer, max_length)


def _check_positions(positions: Array | None, attended: Array, past_length: int) -> None:
    """Refuse positions that do not follow from the mask: the engine counts them itself."""
    if positions is None:
        return
    own = positions_from_mask(attended.astype(np.int64))[:, past_length:]
    is_attended = attended[:, past_length:] != 0
    differs = (np.broadcast_to(positions, own.shape) != own) & is_attended
    refuse("ctranslate2", {"position_ids that differ from the mask's": bool(differs.any())})
