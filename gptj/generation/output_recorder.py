"""What generate() returns beside the tokens, where it was asked to."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.generation.cached_forward import CachedForward, Floats
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.prompts import Ids
from gptj.spec.outputs import ModelOutput
from gptj.spec.types import Tensor

FIELDS_PER_STEP = ("scores", "logits", "attentions", "hidden_states")


class OutputRecorder:
    """Keeps, step by step, what the options ask for."""

    def __init__(self, request: DecodeRequest) -> None:
        """Look up what is wanted."""
        options = request.options
        self.request = request
        wanted = options.return_dict_in_generate
        self.steps: dict[str, list[Any]] = {
            name: [] for name in FIELDS_PER_STEP if wanted and getattr(options, f"output_{name}")
        }

    def add(
        self,
        runner: CachedForward,
        logits: Floats,
        scores: Floats,
        rows: npt.NDArray[np.integer] | None = None,
    ) -> None:
        """Keep one step: raw logits and processed scores (B, V), and what the model returned.

        Args:
            rows: (B,) which rows of the model's last run count, if not all.
        """

        def kept(layers: Sequence[Tensor] | None) -> Sequence[Tensor] | None:
            if rows is None or layers is None:
                return layers
            return tuple(
                backend.from_numpy(backend.to_numpy(layer)[rows], model) for layer in layers
            )

        backend, model = self.request.backend, self.request.model
        found: dict[str, Callable[[], Any]] = {
            "scores": lambda: backend.from_numpy(scores, model),
            "logits": lambda: backend.from_numpy(logits, model),
            "attentions": lambda: kept(runner.output.attentions),
            "hidden_states": lambda: kept(runner.output.hidden_states),
        }
        for name, steps in self.steps.items():
            steps.append(found[name]())

    def deliver(
        self, ids: Ids, runner: CachedForward, **others: npt.ArrayLike
    ) -> Tensor | ModelOutput:
        """Return tokens as a tensor, or with everything else in a `ModelOutput`."""
        backend, model = self.request.backend, self.request.model
        sequences = backend.from_numpy(ids, model)
        if not self.request.options.return_dict_in_generate:
            return sequences
        tensors = {
            name: backend.from_numpy(np.asarray(value), model) for name, value in others.items()
        }
        steps = {name: tuple(values) for name, values in self.steps.items()}
        cache = None if runner.cache is None else runner.cache.frozen()
        found = ModelOutput(sequences=sequences, **tensors, **steps, past_key_values=cache)
        return found.known()
