"""From a model's logits to the scores that a token is chosen by."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT
from gptj.errors import ArgumentError
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.logits_processors import Processor, make_processors
from gptj.generation.no_token import Place, refuse
from gptj.generation.prompts import Ids
from gptj.generation.sampling_filters import Floats, candidates, spread


class LogitsPipeline:
    """The processors of a request: its options', then the caller's own."""

    def __init__(self, request: DecodeRequest, diversity: Processor | None = None) -> None:
        """Make the processors, among which that of groups of beams may be."""
        self.request = request
        attended = request.prompt.mask.sum(axis=1)  # processors see no padding
        self.starts = np.maximum(request.prompt.ids.shape[1] - attended, 0)  # (B,)
        self.processors = make_processors(request.options, request.plan, diversity)

    def __call__(
        self, ids: Ids, scores: Floats, step: int, *, finished: npt.ArrayLike = False
    ) -> Floats:
        """Return what the processors make of scores (B, V) for texts (B, L).

        Args:
            finished: (B,) sequences that need no token any more.
        """
        starts = np.repeat(self.starts, len(ids) // len(self.starts))
        sequences = [text[start:] for text, start in zip(ids, starts, strict=True)]
        _check(scores.reshape(len(self.starts), -1), step, finished)
        scores = scores.copy()
        for processor in self.processors:
            scores = processor(sequences, scores, step)
        for own in self.request.processors:
            scores = self._ask(own, ids, scores)
        _check(scores.reshape(len(self.starts), -1), step, finished)  # one beam may remain
        return scores

    def final(self, scores: Floats) -> Floats:
        """Return the scores with the filters of sampling applied, as callers want to see them."""
        if self.request.plan.do_sample:
            scores = spread(*candidates(scores, self.request.plan), scores.shape[-1])
        return log_softmax(scores) if self.request.options.renormalize_logits else scores

    def _ask(self, processor: Callable[..., Any], ids: Ids, scores: Floats) -> Floats:
        """Let a caller's own processor change the scores, in tensors of the framework."""
        backend, model = self.request.backend, self.request.model
        takes_length = "cur_len" in inspect.signature(processor).parameters  # as TensorFlow had it
        length = {"cur_len": ids.shape[1]} if takes_length else {}
        tensors = (backend.from_numpy(ids, model), backend.from_numpy(scores, model))
        found = backend.to_numpy(processor(*tensors, **length)).astype(np.float32)
        if found.shape != scores.shape:
            raise ArgumentError(
                f"A logits processor must return scores of {scores.shape}; {processor!r} returned "
                f"{found.shape}."
            )
        return np.array(found)


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return log-probabilities of (..., V) logits, in their dtype."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _check(scores: Floats, step: int, finished: npt.ArrayLike) -> None:
    """Refuse to choose from scores (B, all) where there is no choice: nonsense would follow."""
    best = scores.max(axis=-1)
    wrong = np.flatnonzero(~np.isfinite(best) & ~np.asarray(finished))
    if len(wrong):
        found = NOTHING_LEFT if best[wrong[0]] == -np.inf else NOT_NUMBERS
        raise refuse(Place(found, int(wrong[0]), len(scores), step))
