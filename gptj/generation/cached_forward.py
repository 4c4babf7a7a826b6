"""Runs a backend's forward on growing texts: what is in the cache already is not run again."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.model import Model
from gptj.errors import ArgumentError
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.length_buckets import bucket_length
from gptj.generation.prompts import Ids
from gptj.spec.checks import already_checked
from gptj.spec.outputs import ModelOutput

Floats = npt.NDArray[np.float32]


class CachedForward:
    """A model, the cache of its texts, and the mask of their prompts.

    Attributes:
        filled: places of the context that the cache holds.
        output: what the last call of the model returned.
    """

    def __init__(self, request: DecodeRequest, model: Model | None = None, extra: int = 0) -> None:
        """Make room for a prompt and its continuation, and `extra` tokens that may be dropped.

        Args:
            model: instead of the request's own.
        """
        self.backend, self.options = request.backend, request.options
        self.model = request.model if model is None else model
        self.mask, self.embeds = request.prompt.mask, request.prompt.embeds
        self.limit = self.model.config.n_positions
        self.offset = request.prompt.width - request.prompt.ids.shape[1]
        total = request.prompt.width + request.plan.max_new_tokens + extra
        self.capacity = bucket_length(min(total, self.limit), self.limit)
        given = request.prompt.cache if model is None else None
        self.cache = None if given is None else given.with_capacity(self.capacity)
        self.filled = 0 if given is None else int(given.length)
        self.dropped = 0  # tokens at the start that a sliding window has left behind
        self.output = ModelOutput()

    def run(self, ids: Ids, keep: int = 1) -> Floats:
        """Return the logits at the last `keep` positions of texts (B, L), as (B, keep, V)."""
        count = self.places(ids.shape[1])
        if count > self.limit and self.options.truncation == "sliding_window":
            self._slide(count)
            count = self.places(ids.shape[1])
        if not self.options.use_cache:
            self.filled = 0
        new = ids[:, ids.shape[1] - (count - self.filled) :] if self.embeds is None else ids[:, :0]
        mask = self._mask(count)
        with already_checked():  # the prompt was checked, and drawn tokens are in the vocabulary
            self.output = self.backend.forward(self.model, **self._inputs(new, mask, keep))
        self.filled, self.embeds = count, None
        self.cache = self.output.pop("past_key_values", None)  # held here alone: it may be large
        return self.backend.to_numpy(self.output.logits)[:, -keep:].astype(np.float32)

    def places(self, length: int) -> int:
        """Return how many places of the context texts of so many tokens take now."""
        return length + self.offset - self.dropped

    def room(self, length: int) -> int:
        """Return how many tokens still fit after texts of so many."""
        return max(self.limit - self.places(length), 0)

    def gather(self, rows: npt.NDArray[np.integer]) -> None:
        """Keep the given sequences, in that order."""
        self.mask = self.mask[rows]
        if self.cache is not None:
            with already_checked():
                self.cache = self.cache.gather(self.backend.from_numpy(rows, self.model))

    def crop(self, length: int) -> None:
        """Forget what follows the first `length` places."""
        self.filled = min(self.filled, length)
        if self.cache is not None:
            self.cache = self.cache.crop(self.filled)

    def _inputs(self, new: Ids, mask: npt.NDArray[np.integer], keep: int) -> dict[str, Any]:
        options, tensor = self.options, self.backend.from_numpy
        inputs: dict[str, Any] = {"attention_mask": tensor(mask, self.model)}
        if self.embeds is not None:
            inputs["inputs_embeds"] = self.embeds
        else:
            inputs["input_ids"] = tensor(new, self.model)
        if options.use_cache:
            batch = len(mask)
            cache = self.cache or self.backend.init_cache(self.model, batch, self.capacity)
            inputs |= {"past_key_values": cache, "use_cache": True}
        else:
            inputs["use_cache"] = False
        flags = ("output_attentions", "output_hidden_states")
        wanted = {flag: True for flag in flags if getattr(options, flag)}
        return {**inputs, "logits_to_keep": keep, **wanted}

    def _mask(self, count: int) -> npt.NDArray[np.integer]:
        """Return the mask of the whole cache, or of `count` tokens where there is none."""
        known = self.mask[:, self.dropped :]
        width = self.capacity if self.options.use_cache else count
        mask = np.ones((len(known), width), np.int64)
        mask[:, : known.shape[1]] = known
        return mask

    def _slide(self, count: int) -> None:
        """Leave the older half of the context behind: the rest is computed again, and fits.

        Positions count from the first token that is left, as if the text began there.
        """
        if self.offset:
            raise ArgumentError(
                "truncation='sliding_window' needs the tokens of the prompt, and inputs_embeds "
                "has none. Give input_ids, or keep within the context."
            )
        self.dropped += count - max(self.limit // 2, 1)
        self.filled, self.cache = 0, None
