"""The models: one compiled graph each, whose state OpenVINO keeps."""

from typing import Any, ClassVar, Final

import numpy as np
import openvino as ov

from gptj.backends.openvino.cache import OpenVINOCache
from gptj.backends.openvino.graph import KEPT, text_graph
from gptj.model.array_cache import Array
from gptj.model.array_heads import (
    ArrayForCausalLM,
    ArrayForQuestionAnswering,
    ArrayForSequenceClassification,
)
from gptj.model.array_inputs import Flags, Inputs
from gptj.model.array_models import ArrayModel
from gptj.model.engine_limits import compiled_facts, refuse_extras
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.positions import last_attended, positions_from_mask
from gptj.spec.tensors import Tensors

EXACT: Final = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
"""Float32 throughout: OpenVINO's own cache would be 8-bit numbers, even beside float32 weights."""


class OpenVINOGPTJModel(ArrayModel):
    """GPT-J without a head: token ids to hidden states."""

    backend_name = "openvino"
    cache_class: ClassVar[type] = OpenVINOCache
    engine_parts: ClassVar[tuple[str, ...]] = ("compiled",)
    compiled: ov.CompiledModel

    def __init__(self, config: GPTJConfig, params: Tensors) -> None:
        """Compile the graph of a head for the processor."""
        super().__init__(config, params)
        self.open_engine()

    def replace(self, params: Tensors) -> None:
        """Take other parameters, and compile the graph anew."""
        super().replace(params)
        self.open_engine()

    def open_engine(self) -> None:
        """Compile the graph."""
        self.facts = compiled_facts(self.config)
        graph = text_graph(self.config, self.head, self.params, choose_positions=True)
        self.compiled = ov.Core().compile_model(graph, "CPU", EXACT)

    def compute(
        self, inputs: Inputs, past: Any, flags: Flags, keep: Array | None = None
    ) -> ModelOutput:
        """Run the graph; its outputs are those of the positions in `keep`.

        Raises:
            UnsupportedFeature: for inputs and outputs that the graph lacks.
        """
        refuse_extras(self.backend_name, inputs, flags)
        ids, positions, mask = (inputs[n] for n in ("input_ids", "position_ids", "attention_mask"))
        found, cache = self._run(ids, positions, mask, past, keep)
        return ModelOutput(**self.fields(found, inputs), past_key_values=cache)

    def _run(
        self,
        ids: Array,
        positions: Array | None,
        mask: Array | None,
        past: OpenVINOCache | None,
        keep: Array | None,
    ) -> tuple[Array, OpenVINOCache]:
        batch, length = ids.shape
        past = OpenVINOCache(self.config, batch) if past is None else past
        whole = np.ones((batch, past.length + length), np.int64)
        attended = whole if mask is None else (mask != 0).astype(np.int64)
        if positions is None:
            positions = positions_from_mask(attended)[:, past.length :]
        given = {
            "input_ids": ids.astype(np.int64, copy=False),
            "attention_mask": attended,
            "position_ids": np.ascontiguousarray(np.broadcast_to(positions, ids.shape), np.int64),
            KEPT: np.arange(length) if keep is None else np.asarray(keep, np.int64),
        }
        with past.held():
            session, rows = past.opened(self.compiled)
            try:
                found = session.infer(given, rows)
            finally:
                past.after(session)
        total = past.length + length
        cache = OpenVINOCache(self.config, batch, total, past.capacity, attended)
        return found, cache.kept_in(session)

    def fields(self, found: Array, inputs: Inputs) -> dict[str, Array]:
        """Return the outputs by name, from that of the graph, (B, T, ...)."""
        return {"last_hidden_state": found}

    def init_cache(self, batch: int, max_length: int) -> OpenVINOCache:
        """Return an empty cache of `max_length` tokens at most."""
        return OpenVINOCache(self.config, batch, capacity=max_length)


class OpenVINOGPTJForCausalLM(ArrayForCausalLM, OpenVINOGPTJModel):
    """GPT-J with a language-model head: token ids to next-token logits."""

    def fields(self, found: Array, inputs: Inputs) -> dict[str, Array]:
        """Return the logits, (B, T, V)."""
        return {"logits": found}


class OpenVINOGPTJForSequenceClassification(ArrayForSequenceClassification, OpenVINOGPTJModel):
    """GPT-J with a classification head on the last attended token of every sequence."""

    def fields(self, found: Array, inputs: Inputs) -> dict[str, Array]:
        """Return the logits of the tokens that count, (B, L)."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        past_length = 0 if mask is None else mask.shape[1] - ids.shape[1]
        pad = self.config.pad_token_id
        places = last_attended(mask, ids, ids.shape[1], past_length, pad)
        return {"logits": found[np.arange(len(ids)), places]}


class OpenVINOGPTJForQuestionAnswering(ArrayForQuestionAnswering, OpenVINOGPTJModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    def fields(self, found: Array, inputs: Inputs) -> dict[str, Array]:
        """Return the logits of start and end, (B, T) each."""
        return {"start_logits": found[..., 0], "end_logits": found[..., 1]}
