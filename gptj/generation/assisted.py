"""Drafting several tokens and checking them in one run: the same text in fewer steps.

Draft tokens come from an assistant model (Leviathan et al., arXiv:2211.17192) or from the text
itself (Saxena, "Prompt lookup decoding"). A draft token counts only if it is what would be
chosen without it, drawn ones included, as noise depends on the place and not on the path.
"""

from collections.abc import Callable, Iterator

import numpy as np

from gptj.errors import ArgumentError
from gptj.generation.cached_forward import CachedForward
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.logits_pipeline import LogitsPipeline
from gptj.generation.output_recorder import OutputRecorder
from gptj.generation.prompts import Ids
from gptj.generation.sampling import choose_tokens
from gptj.generation.stopping import Stopping

Draft = Callable[[Ids, int], Ids]
"""(texts (B, L), how many at most) -> draft tokens (B, n), n may be 0."""


def decode(
    request: DecodeRequest, runner: CachedForward, recorder: OutputRecorder
) -> Iterator[Ids]:
    """Yield new tokens, (B, 1) each; one run of the model per draft."""
    plan, ids = request.plan, request.prompt.ids
    length, step = ids.shape[1], 0
    pipeline = LogitsPipeline(request)
    stopping = Stopping(request)
    draft = _drafter(request)
    finished = np.zeros(len(ids), bool)
    while step < plan.max_new_tokens and not finished.all() and not stopping.out_of_time():
        room = runner.room(ids.shape[1])  # a draft must not make a window slide
        draft_tokens = draft(ids, min(plan.max_new_tokens - step - 1, room))
        count = draft_tokens.shape[1]
        logits = runner.run(np.hstack((ids, draft_tokens)), keep=count + 1)
        for place in range(count + 1):
            scores = pipeline(ids, logits[:, place], step, finished=finished)
            drawn = np.where(finished, plan.pad_token_id, choose_tokens(scores, plan, step))
            recorder.add(runner, logits[:, place], pipeline.final(scores))
            ids, step = np.hstack((ids, drawn[:, None])), step + 1
            yield drawn[:, None]
            finished |= stopping.ended(ids, length, scores)
            if finished.all() or place == count:
                break
            if (~finished & (drawn != draft_tokens[:, place])).any():
                break
        runner.crop(runner.places(ids.shape[1] - 1))


def _drafter(request: DecodeRequest) -> Draft:
    if request.assistant is None:
        options = request.options
        count = options.prompt_lookup_num_tokens or 0
        return PromptLookup(count, options.max_matching_ngram_size)
    return Assistant(request)


class PromptLookup:
    """Drafts what followed the end of the text when it occurred before."""

    def __init__(self, count: int, longest: int) -> None:
        """Draft up to `count` tokens after an end of up to `longest` tokens."""
        self.count, self.longest = count, longest

    def __call__(self, ids: Ids, most: int) -> Ids:
        """Return draft tokens, (B, n), as many as every sequence has."""
        drafts = [self._look_up(text)[: min(self.count, most)] for text in ids]
        count = min(len(draft) for draft in drafts)
        return np.stack([draft[:count] for draft in drafts]).astype(np.int64)

    def _look_up(self, text: Ids) -> Ids:
        """Return what followed the longest end of the text that occurs earlier, in its order."""
        for size in range(min(self.longest, len(text) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(text[:-1], size)
            places = np.flatnonzero((windows == text[-size:]).all(axis=1))
            if len(places):
                return text[places[0] + size :]
        return text[:0]


class Assistant:
    """Drafts what a smaller model would write, greedily."""

    def __init__(self, request: DecodeRequest) -> None:
        """Give the assistant the prompt.

        Raises:
            ArgumentError: if it has another vocabulary, or the prompt is no tokens.
        """
        model, own = request.assistant, request.model.config
        assert model is not None
        if getattr(model, "backend_name", None) != request.model.backend_name:
            raise ArgumentError(
                "assistant_model must be a gptj model of the same backend, "
                f"{request.model.backend_name!r}; found {type(model).__name__}."
            )
        if model.config.vocab_size != own.vocab_size:
            raise ArgumentError(
                f"assistant_model has {model.config.vocab_size} tokens, the model {own.vocab_size}"
                ": they must share one vocabulary."
            )
        if request.prompt.embeds is not None:
            raise ArgumentError("assistant_model needs input_ids, not inputs_embeds.")
        self.count = request.options.num_assistant_tokens
        self.runner = CachedForward(request, model, extra=self.count)

    def __call__(self, ids: Ids, most: int) -> Ids:
        """Return draft tokens, (B, n)."""
        length = ids.shape[1]
        for _ in range(min(self.count, most)):
            drawn = self.runner.run(ids)[:, -1].argmax(axis=-1)
            ids = np.hstack((ids, drawn[:, None]))
        self.runner.crop(self.runner.places(length - 1))  # a wrong draft must not stay
        return ids[:, length:]
