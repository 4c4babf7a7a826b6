"""The base of models whose engine keeps its cache to itself, and runs whole texts."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from gptj.model.array_cache import Array
from gptj.model.array_heads import ArrayForCausalLM
from gptj.model.array_inputs import Flags, Inputs
from gptj.model.engine_limits import refuse, refuse_extras
from gptj.model.text_cache import TextCache
from gptj.spec import IGNORE_INDEX
from gptj.spec.outputs import ModelOutput
from gptj.spec.positions import positions_from_mask


class TextForCausalLM(ArrayForCausalLM):
    """GPT-J with a language-model head: token ids to next-token logits."""

    cache_class: ClassVar[type] = TextCache

    @abstractmethod
    def logits_at(self, texts: TextCache, kept: Array) -> Array:
        """Return the logits at some places (K,) of texts, (B, K, V), and 0 at padding.

        Padding may be anywhere, and a text may be all padding.
        """

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
        is_changed = (attended[:, : past.length] != (past.attended != 0)).any()
        asked = {"attention_mask that differs for the tokens of a cache": bool(is_changed)}
        refuse(self.backend_name, asked)
        self._check_positions(inputs["position_ids"], attended[:, :total], past.length)
        cache = past.extended(ids, attended.astype(np.int64))
        kept = np.arange(ids.shape[1]) if keep is None else keep
        return ModelOutput(logits=self.logits_at(cache, past.length + kept), past_key_values=cache)

    def init_cache(self, batch: int, max_length: int) -> TextCache:
        """Return an empty cache of `max_length` tokens at most."""
        return TextCache.empty(batch, self.config.n_layer, max_length)

    def check_targets(self, labels: Array, mask: Array | None) -> None:
        """Refuse labels (B, T) right after padding, at which the engine computes nothing.

        Raises:
            UnsupportedFeature: saying so.
        """
        if mask is None or mask.ndim != 2:
            return
        after_padding = (labels[:, 1:] != IGNORE_INDEX) & (mask[:, -labels.shape[1] : -1] == 0)
        refuse(self.backend_name, {"labels of tokens right after padding": after_padding.any()})

    def _check_positions(self, positions: Array | None, attended: Array, past_length: int) -> None:
        """Refuse positions that do not follow from the mask: the engine counts them itself."""
        if positions is None:
            return
        own = positions_from_mask(attended.astype(np.int64))[:, past_length:]
        is_attended = attended[:, past_length:] != 0
        differs = (np.broadcast_to(positions, own.shape) != own) & is_attended
        asked = {"position_ids that differ from the mask's": bool(differs.any())}
        refuse(self.backend_name, asked)
