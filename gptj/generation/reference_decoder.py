"""The driver: all decoding for all backends, in NumPy around a backend's forward.

It defines what generation does; a backend's own loop is faster, can do less and must give the same
tokens, all at once or one after the other.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gptj.generation import assisted, contrastive
from gptj.generation.beam_search import BeamSearch
from gptj.generation.cached_forward import CachedForward
from gptj.generation.decode_request import DecodeRequest, Ids
from gptj.generation.logits_pipeline import LogitsPipeline
from gptj.generation.output_recorder import OutputRecorder
from gptj.generation.sampling import choose_tokens
from gptj.generation.stopping import Stopping


def generate(request: DecodeRequest) -> Any:
    """Continue prompts and return them with the new tokens, (B, T + new), as a tensor.

    Where `return_dict_in_generate` asks for it, in a `ModelOutput`. A streamer is told of every
    step's tokens before the next is computed.
    """
    options = request.options
    if options.num_beams > 1:
        return BeamSearch(request).run()
    request = request.repeated(options.num_return_sequences)
    runner, record = CachedForward(request, extra=_draft_length(request)), OutputRecorder(request)
    steps = _steps(request, runner, record)
    chosen = _streamed(request, steps) if request.streamer is not None else list(steps)
    return record.deliver(np.hstack((request.prompt.given, *chosen)), runner)


def written(request: DecodeRequest) -> Iterator[Ids]:
    """Yield new tokens, (B, n), each before the next is computed."""
    return _steps(
        request, CachedForward(request, extra=_draft_length(request)), OutputRecorder(request)
    )


def _steps(request: DecodeRequest, runner: CachedForward, record: OutputRecorder) -> Iterator[Ids]:
    """Yield the new tokens as they are chosen, (B, 1) each."""
    if request.uses_compiled_loop:
        tensor, prompt = request.backend.from_numpy, request.prompt
        given = (tensor(array, request.model) for array in (prompt.ids, prompt.mask))
        return request.backend.stream(request.model, *given, request.plan)
    if request.options.penalty_alpha is not None:
        return contrastive.decode(request, runner, record)
    if _draft_length(request):
        return assisted.decode(request, runner, record)
    return _decode_stepwise(request, runner, record)


def _decode_stepwise(
    request: DecodeRequest, runner: CachedForward, record: OutputRecorder
) -> Iterator[Ids]:
    """Choose one token per row and step."""
    plan, ids = request.plan, request.prompt.ids
    length = ids.shape[1]
    pipeline = LogitsPipeline(request)
    stopping = Stopping(request)
    finished = np.zeros(len(ids), bool)
    for step in range(plan.max_new_tokens):
        logits = runner.run(ids)[:, -1]
        scores = pipeline(ids, logits, step, finished=finished)
        drawn = np.where(finished, plan.pad_token_id, choose_tokens(scores, plan, step))
        scores = pipeline.final(scores)
        record.add(runner, logits, scores)
        ids = np.hstack((ids, drawn[:, None]))
        yield drawn[:, None]
        finished |= stopping.ended(ids, length, scores)
        if finished.all() or stopping.out_of_time():
            return


def _streamed(request: DecodeRequest, steps: Iterator[Ids]) -> list[Ids]:
    """Tell the streamer of the prompt, of every new token and of the end."""
    streamer, chosen = request.streamer, []
    assert streamer is not None
    streamer.put(request.prompt.given)
    for tokens in steps:  # (B, 1)
        chosen.append(tokens)
        streamer.put(tokens[:, 0])
    streamer.end()
    return chosen


def _draft_length(request: DecodeRequest) -> int:
    """Return how many tokens are guessed before they are checked."""
    if request.assistant is not None:
        return request.options.num_assistant_tokens
    return request.options.prompt_lookup_num_tokens or 0
