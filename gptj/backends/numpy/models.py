"""The models of all heads: the forward pass of ``gptj.spec.reference``, in float32."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gptj.model.array_cache import Array, ArrayCache
from gptj.model.array_heads import (
    ArrayForCausalLM,
    ArrayForQuestionAnswering,
    ArrayForSequenceClassification,
)
from gptj.model.array_inputs import Flags, Inputs
from gptj.model.array_models import ArrayModel, in_float32
from gptj.spec import reference
from gptj.spec.outputs import ModelOutput


class NumpyGPTJModel(ArrayModel):
    """GPT-J without a head: token ids to hidden states.

    Attributes:
        computed_in: the dtype of the computation; outputs are float32.
    """

    backend_name = "numpy"
    computed_in: ClassVar[npt.DTypeLike] = np.float32

    def compute(
        self, inputs: Inputs, past: Any, flags: Flags, keep: Array | None = None
    ) -> ModelOutput:
        """Run the reference's forward pass; it returns all fields."""
        output = reference.forward(
            self.config,
            self.params,
            head=self.head,
            past_key_values=past.filled() if past is not None and past.length else None,
            observe=self.observe,
            dtype=self.computed_in,
            keep=keep,
            **inputs,
        )
        layers = output.pop("past_key_values", None)
        cache = None if layers is None else self._cache(layers, past, inputs["attention_mask"])
        return ModelOutput(**in_float32(dict(output)), past_key_values=cache)

    def _cache(self, layers: Any, past: ArrayCache | None, mask: Array | None) -> ArrayCache:
        """Return the cache after a call that computed keys and values, past and new."""
        total = layers[0][0].shape[2]
        cache = ArrayCache(layers, total) if past is None else past.extended(layers)
        cache.attended = mask if mask is not None and mask.ndim == 2 else None
        return cache

    def init_cache(self, batch: int, max_length: int) -> ArrayCache:
        """Return an empty cache that later calls write into."""
        shape = (batch, self.config.n_head, max_length, self.config.head_dim)
        empty = [
            (np.zeros(shape, self.computed_in), np.zeros(shape, self.computed_in))
            for _ in range(self.config.n_layer)
        ]
        return ArrayCache(empty, 0, preallocated=True)


class NumpyGPTJForCausalLM(ArrayForCausalLM, NumpyGPTJModel):
    """GPT-J with a language-model head: token ids to next-token logits."""


class NumpyGPTJForSequenceClassification(ArrayForSequenceClassification, NumpyGPTJModel):
    """GPT-J with a classification head on the last attended token of every sequence."""


class NumpyGPTJForQuestionAnswering(ArrayForQuestionAnswering, NumpyGPTJModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""
